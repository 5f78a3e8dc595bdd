"""Writing that cannot leave half a file, and disk space checked before it runs out."""

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from slicewise.core.disk import MIB, existing_parent, set_filename
from slicewise.core.errors import WorkspaceError

_TEMPORARY_SUFFIX: Final = ".unfinished"
_MAX_JSON_BYTES: Final = 256 * MIB
_LARGEST_INT: Final = 1 << 63
_SUSPICIOUS_ESCAPE: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its name when the block ends without an error.

    Readers see the old file or the new one, never a part. The data is flushed to disk before the rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = _open_temporary(path)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        set_filename(error, path)
        raise


def _open_temporary(path: Path) -> tuple[int, str]:
    try:
        return tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY_SUFFIX)
    except OSError as error:
        error.filename = str(path)  # people know this name, not the random one
        raise


def sweep(folder: Path, *, deep: bool = False) -> None:
    """Remove what killed processes left of `atomic_write`, in `folder` or also below it.

    Only while no other process writes there.
    """
    pattern = f".*{_TEMPORARY_SUFFIX}"
    for path in list(folder.rglob(pattern) if deep else folder.glob(pattern)):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically, keys in the order given. NaN and infinity are refused (RFC 8259)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        WorkspaceError: the file is damaged, or no file.
        FileNotFoundError: there is none.
    """
    try:
        return parse_json(read_capped(path))
    except FileNotFoundError:
        raise
    except (ValueError, OSError) as error:
        raise WorkspaceError(f"{path} is damaged ({error}); move it aside and run again") from error


def read_capped(path: Path) -> bytes:
    """Return the bytes of a JSON file; one that is too long for a record of ours is cut, and so no JSON."""
    with path.open("rb") as stream:
        return stream.read(_MAX_JSON_BYTES)


def parse_json(data: bytes) -> Any:
    """Read JSON that anybody may have written.

    Raises:
        ValueError: it is not JSON (NaN and infinity are not), nested too deeply, or holds what no record of
            ours does: a number beyond 64 bits, a NUL, half a character.
    """
    try:
        value = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if _SUSPICIOUS_ESCAPE.search(data):
        text = json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be encoded
        if b"\\u0000" in text:
            raise ValueError("it holds a NUL")
    return value


def is_safe_relative(name: str) -> bool:
    """Whether a name read from a file, taken relative to a folder, cannot lead out of it."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _bounded(text: str) -> int:
    value = int(text)
    if not -_LARGEST_INT <= value < _LARGEST_INT:
        raise ValueError(f"{text[:20]}... is too large")
    return value


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise WorkspaceError when the disk that holds `folder` has less than `needed_bytes` free."""
    existing = existing_parent(folder)
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise WorkspaceError(
            f"{what} needs about {needed_bytes / MIB:,.0f} MiB and {existing} has {free / MIB:,.0f} free; "
            "free some space (`slicewise clean` deletes superseded outputs) or move the workspace with "
            "--workspace, then run the same command again"
        )
