"""One controller per workspace at a time."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from slicewise.core.errors import WorkspaceError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` for the length of the block.

    The kernel drops the lock when its process ends in whatever way, so a dead run never blocks the next.

    Raises:
        WorkspaceError: another process holds it; names that process, its host and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WorkspaceError(_who(stream, path)) from error
        _sign(stream)
        yield


def _sign(stream: IO[str]) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})
    # Past the buffer: what a full disk refuses must not be tried again when the file is closed. The lock
    # holds without a name on it, and `slicewise clean` must start where the disk is full.
    with suppress(OSError):
        os.ftruncate(stream.fileno(), 0)
        os.pwrite(stream.fileno(), text.encode(), 0)


def _who(stream: IO[str], path: Path) -> str:
    stream.seek(0)
    try:
        holder = json.load(stream)
        name = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError):
        name = "another process"
    workspace = path.parent.parent
    return f"{workspace} is in use by {name}; wait for it to end, stop it, or choose another --workspace"
