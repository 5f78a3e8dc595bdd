"""Writing that cannot leave half a file, and disk space checked before it runs out."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from slicewise.core.errors import WorkspaceError

MIB = 1 << 20
_UNFINISHED = ".unfinished"


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its name when the block ends without an error.

    Readers see the old file or the new one, never a part. The data is flushed to disk before the rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sweep(folder: Path, *, deep: bool = False) -> None:
    """Remove what killed processes left of `atomic_write`, in `folder` or also below it.

    Only while no other process writes there.
    """
    pattern = f".*{_UNFINISHED}"
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
        WorkspaceError: the file is damaged.
        FileNotFoundError: there is none.
    """
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WorkspaceError(f"{path} is damaged ({error}); delete it and run again") from error


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise WorkspaceError when the disk that holds `folder` has less than `needed_bytes` free."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise WorkspaceError(
            f"{what} needs about {needed_bytes / MIB:,.0f} MiB and {existing} has {free / MIB:,.0f} free; "
            "free some space or move the workspace with --workspace, then run the same command again"
        )
