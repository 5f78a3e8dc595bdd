"""One controller per workspace at a time.

Two things guard a workspace. The kernel's lock (`flock` on `lock.kernel`) goes with its process, however that
ends; on one machine it decides alone. Where the folder is shared, the kernel's lock may reach no further than
its own machine, or be refused: there the lease (`lock`) decides. It names its holder, is created atomically,
and is touched every ten seconds. A lease is void

- on the machine that made it: at once when its process is gone or the machine was started anew;
- anywhere else: when it was not touched for a minute, by the clock of the file system.
"""

import errno
import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from slicewise.core.console import say
from slicewise.core.errors import WorkspaceError
from slicewise.engine.lease import FULL_DISK, STALE_SECONDS, Heartbeat, Holder, claim, release

_POLL_SECONDS = 0.5
_NO_KERNEL_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class _LockedError(Exception):
    """Another controller is at work."""


@contextmanager
def exclusive_lock(path: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock at `path` for the length of the block.

    Args:
        path: the lease; other files of the lock lie beside it.
        wait_seconds: how long to wait for another controller to end; 0 refuses at once.

    Raises:
        WorkspaceError: another process holds it, or took it over while this one was suspended; names that
            process, its host and since when. Or it could not be read for long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.kernel").open("a+") as stream:
        mine = _acquire_waiting(lambda: _acquire(stream, path), path, wait_seconds)
        heartbeat = Heartbeat(path, mine)
        try:
            with heartbeat:
                yield
        except KeyboardInterrupt as error:
            if heartbeat.lost:
                raise WorkspaceError(_lost_message(path, heartbeat.fault)) from error
            raise
        finally:
            release(path, mine)


def lock_holder(path: Path) -> Holder | None:
    """Return who holds the lock now, or None where it is free; takes nothing and waits for nothing."""
    holder = Holder.read(path)
    return None if holder is None or holder.is_gone(path) else holder


def _acquire_waiting(take: Callable[[], Holder], path: Path, wait_seconds: float) -> Holder:
    deadline = time.monotonic() + wait_seconds
    announced = False
    while True:
        try:
            return take()
        except _LockedError as error:
            if time.monotonic() >= deadline:
                raise WorkspaceError(_in_use_message(path)) from error
        if not announced:
            say(f"waiting: {_holder_name(path)} works in {path.parent.parent}", "warn")
            announced = True
        time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _acquire(stream: IO[str], path: Path) -> Holder:
    trusted = _kernel_lock(stream)
    mine = Holder.current()
    try:
        ours = claim(path, mine, same_machine_is_void=trusted)
    except OSError as error:
        # The kernel's lock holds without a name on it, and `slicewise clean` must start on a full disk.
        if not (trusted and error.errno in FULL_DISK):
            raise
        return mine
    if not ours:
        if trusted:
            fcntl.flock(stream, fcntl.LOCK_UN)
        raise _LockedError
    return mine


def _kernel_lock(stream: IO[str]) -> bool:
    """Take the kernel's lock; return whether there is such a thing here."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_KERNEL_LOCK:
            return False
        raise _LockedError from error
    return True


def _holder_name(path: Path) -> str:
    holder = Holder.read(path)
    return str(holder) if holder else "another process"


def _lost_message(path: Path, fault: Exception | None) -> str:
    if fault is None:
        return _in_use_message(path)
    return (
        f"{path} could not be read for {STALE_SECONDS:.0f} s ({fault}), and another machine may have taken "
        "the workspace over; see to the disk or the network, then run the same command again; what was "
        "finished is kept"
    )


def _in_use_message(path: Path) -> str:
    return (
        f"{path.parent.parent} is in use by {_holder_name(path)}; wait for it to end (--wait), stop it, "
        "or choose another --workspace"
    )
