"""SHA-256 (FIPS 180-4) of values and files, as 64 hexadecimal characters."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def digest(value: Any) -> str:
    """Return the SHA-256 of a value made of dicts, lists, strings, numbers, booleans and None.

    Key order does not matter.

    Raises:
        TypeError, ValueError: anything else (a set, a Path, NaN), whose hash may differ between processes.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path, advance: Callable[[int], object] = lambda _: None) -> str:
    """Return the SHA-256 of a file's bytes; `advance` gets the number of bytes of each chunk."""
    sha = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            sha.update(chunk)
            advance(len(chunk))
    return sha.hexdigest()


class HashCache:
    """File hashes cached by (size, mtime, inode): an unchanged file costs one stat.

    `table` maps an absolute path to [size, mtime_ns, inode, sha256]; the owner loads and stores it.
    """

    def __init__(self, table: Mapping[str, list[Any]] | None = None) -> None:
        self.table = {
            path: row
            for path, row in (table or {}).items()
            if isinstance(row, list) and [*map(type, row)] == [int, int, int, str] and len(row[3]) == 64
        }  # damaged rows are dropped: the table only saves time
        self.changed = False

    def hash(self, path: Path, stat: os.stat_result | None = None) -> str:
        """Return the file's SHA-256, reading it only if its stat differs from the cached one."""
        stat = stat or path.stat()
        stat_row = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        name = str(path.absolute())
        known = self.table.get(name)
        if known is not None and known[:3] == stat_row:
            return str(known[3])
        sha = hash_file(path)
        self.table[name] = [*stat_row, sha]
        self.changed = True
        return sha

    def row(self, path: Path) -> list[Any]:
        """Return the row of a file in the table, reading the file where it is not known."""
        self.hash(path)
        return self.table[str(path.absolute())]

    def is_known(self, path: Path) -> bool:
        """Whether the hash of a file is known without reading it."""
        stat, known = path.stat(), self.table.get(str(path.absolute()))
        return known is not None and known[:3] == [stat.st_size, stat.st_mtime_ns, stat.st_ino]

    def forget(self, path: Path) -> None:
        """Read the file again the next time, whatever its stat."""
        self.changed |= self.table.pop(str(path.absolute()), None) is not None
