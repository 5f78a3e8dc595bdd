"""Atomic writing of files, and JSON that may come from anybody."""

import json
import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from slicewise.core.disk import MIB, set_filename
from slicewise.core.errors import WorkspaceError

_TEMPORARY_SUFFIX: Final = ".unfinished"
_MAX_JSON_BYTES: Final = 256 * MIB
_LARGEST_INT: Final = 1 << 63
_SUSPICIOUS_ESCAPE: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; without an error it is flushed to disk and renamed to `path`.

    Readers see the old file or the new one, never a part. Not `durable`: except after a loss of power, for
    files that may be lost; the disk need not be waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY_SUFFIX)
    except OSError as error:
        error.filename = str(path)  # the name that the user knows
        raise
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        set_filename(error, path)
        raise


def sweep(folder: Path, *, deep: bool = False) -> None:
    """Remove temporary files that killed processes left in `folder`, or also below it (`deep`).

    No other process may be writing there.
    """
    pattern = f".*{_TEMPORARY_SUFFIX}"
    for path in list(folder.rglob(pattern) if deep else folder.glob(pattern)):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically. NaN and infinity raise ValueError (RFC 8259)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        WorkspaceError: the file is damaged, or is a folder.
        FileNotFoundError: there is no such file.
    """
    try:
        return parse_json(read_capped(path))
    except FileNotFoundError:
        raise
    except (ValueError, OSError) as error:
        raise WorkspaceError(f"{path} is damaged ({error}); move it aside and run again") from error


def read_capped(path: Path) -> bytes:
    """Return at most 256 MiB of a file: longer JSON is none of ours, and cut off it is invalid."""
    with path.open("rb") as stream:
        return stream.read(_MAX_JSON_BYTES)


def parse_json(data: bytes) -> Any:
    """Return the value of untrusted JSON.

    Raises:
        ValueError: not JSON (nor are NaN and infinity), nested too deeply, or with an integer beyond 64 bits,
            a NUL or a lone surrogate.
    """
    try:
        value = json.loads(data, parse_constant=_parse_float, parse_float=_parse_float, parse_int=_parse_int)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if _SUSPICIOUS_ESCAPE.search(data):
        text = json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate cannot be encoded
        if b"\\u0000" in text:
            raise ValueError("it contains a NUL character")
    return value


def is_safe_relative(name: str) -> bool:
    """Whether a path read from a file stays inside the folder that it is relative to."""
    parts = name.split("/")  # there may be many names, and pathlib takes ten times as long
    somewhere = not {*parts} <= {"", "."}
    return somewhere and not name.startswith("/") and ".." not in parts and "\0" not in name


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _parse_int(text: str) -> int:
    value = int(text)
    if not -_LARGEST_INT <= value < _LARGEST_INT:
        raise ValueError(f"{text[:20]}... has more than 64 bits")
    return value
