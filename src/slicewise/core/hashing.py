"""Digests: what a value, a file or a folder is, in 64 hexadecimal characters (SHA-256, FIPS 180-4)."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def digest(value: Any) -> str:
    """Return the SHA-256 of a value made of dicts, lists, strings, numbers, booleans and None.

    Key order does not matter. Anything else (a set, a Path, NaN) raises TypeError or ValueError rather than
    hash differently in the next process.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path, advance: Callable[[int], object] = lambda _: None) -> str:
    """Return the SHA-256 of a file's bytes; `advance` is told how many were read, chunk by chunk."""
    sha = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            sha.update(chunk)
            advance(len(chunk))
    return sha.hexdigest()


def _is_row(row: Any) -> bool:
    """Whether a row is [size, mtime_ns, inode, sha256]."""
    return (
        isinstance(row, list) and [type(cell) for cell in row] == [int, int, int, str] and len(row[3]) == 64
    )


class HashCache:
    """Content hashes remembered by (size, mtime, inode), so an unchanged folder costs one stat per file.

    `table` maps an absolute path to [size, mtime_ns, inode, sha256]; the owner loads and stores it.
    """

    def __init__(self, table: Mapping[str, list[Any]] | None = None) -> None:
        # What is not as it was written is forgotten: the table only saves time.
        self.table = {path: row for path, row in (table or {}).items() if _is_row(row)}
        self.changed = False

    def hash(self, path: Path) -> str:
        """Return the file's SHA-256, reading it only if its stat differs from the remembered one."""
        stat = path.stat()
        stat_row = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        name = str(path.absolute())
        known = self.table.get(name)
        if known is not None and known[:3] == stat_row:
            return str(known[3])
        sha = hash_file(path)
        self.table[name] = [*stat_row, sha]
        self.changed = True
        return sha

    def forget(self, path: Path) -> None:
        """Read the file the next time, whatever its stat."""
        self.changed |= self.table.pop(str(path.absolute()), None) is not None
