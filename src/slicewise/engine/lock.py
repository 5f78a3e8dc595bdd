"""One controller per workspace at a time.

Two locks guard a workspace. The kernel's lock (`flock` on `lock.kernel`) ends with its process; on one
machine it is sufficient. On a shared folder it may cover only its own machine, or be refused: there the lease
(`lock`) decides. It names its holder, is created atomically, and is touched every ten seconds. It is void

- on the machine that created it: at once when its process has ended or the machine was restarted;
- on other machines: when it was not touched for a minute, by the clock of the file system.
"""

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from slicewise.core.console import say
from slicewise.core.errors import WorkspaceError
from slicewise.engine.lease import FULL_DISK, STALE_SECONDS, Heartbeat, Holder, claim, release

_POLL_SECONDS = 0.5
_NO_KERNEL_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class _LockedError(Exception):
    """Another controller holds the lock."""


@contextmanager
def exclusive_lock(path: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock at `path` for the length of the block.

    Args:
        path: the lease; other files of the lock lie beside it.
        wait_seconds: how long to wait for another controller; 0 refuses at once.

    Raises:
        WorkspaceError: another process holds it, or took it over while this one was suspended; the message
            names the process, its host and its start. Or it could not be read for long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.kernel").open("a+") as stream:
        mine = _acquire_waiting(stream, path, wait_seconds)
        heartbeat = Heartbeat(path, mine)
        try:
            with heartbeat:
                yield
        except KeyboardInterrupt as error:
            if not heartbeat.lost:
                raise
            text = _in_use_message(path)
            if heartbeat.fault is not None:
                text = (
                    f"{path} could not be read for {STALE_SECONDS:.0f} s ({heartbeat.fault}), and another "
                    "machine may have taken the workspace over; check the disk or the network, then run the "
                    "same command again; finished steps are kept"
                )
            raise WorkspaceError(text) from error
        finally:
            release(path, mine)


def lock_holder(path: Path) -> Holder | None:
    """Return who holds the lock now, or None where it is free; does not take it or wait."""
    holder = Holder.read(path)
    return None if holder is None or holder.is_gone(path) else holder


def _acquire_waiting(stream: IO[str], path: Path, wait_seconds: float) -> Holder:
    deadline = time.monotonic() + wait_seconds
    announced = False
    while True:
        try:
            return _acquire(stream, path)
        except _LockedError as error:
            if time.monotonic() >= deadline:
                raise WorkspaceError(_in_use_message(path)) from error
        if not announced:
            say(f"waiting: {_holder_name(path)} uses {path.parent.parent}", "warn")
            announced = True
        time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _acquire(stream: IO[str], path: Path) -> Holder:
    has_kernel_lock = True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_KERNEL_LOCK:
            raise _LockedError from error
        has_kernel_lock = False
    mine = Holder.current()
    try:
        is_claimed = claim(path, mine, same_machine_is_void=has_kernel_lock)
    except OSError as error:
        # The kernel's lock suffices without a lease, and `slicewise clean` must start on a full disk.
        if not (has_kernel_lock and error.errno in FULL_DISK):
            raise
        return mine
    if not is_claimed:
        if has_kernel_lock:
            fcntl.flock(stream, fcntl.LOCK_UN)
        raise _LockedError
    return mine


def _holder_name(path: Path) -> str:
    holder = Holder.read(path)
    return str(holder) if holder else "another process"


def _in_use_message(path: Path) -> str:
    return (
        f"{path.parent.parent} is in use by {_holder_name(path)}; wait for it to end (--wait), stop it, "
        "or choose another --workspace"
    )
