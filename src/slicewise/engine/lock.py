"""One controller per workspace at a time.

Two locks guard a workspace. The kernel's lock (`flock` on `lock.kernel`) ends with its process; on one
machine it is sufficient. On a shared folder it may cover only its own machine, or be refused: there the lease
(`lock`) decides. It names its holder, is created atomically, and is touched every ten seconds. It is void

- on the machine that created it: at once when its process has ended or the machine was restarted;
- on other machines: when it was not touched for a minute, by the clock of the file system.

That says when to stop waiting. A holder that was suspended and wakes up does not know that it lost the lease:
so each one has a fencing token (`fence`), which is checked before an output moves.
"""

import errno
import fcntl
import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Self

from slicewise.core.console import say
from slicewise.core.errors import WorkspaceError
from slicewise.engine.fence import FULL_DISK, Fence, take_over

_NO_KERNEL_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_POLL_SECONDS = 0.5
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
_SETTLE_SECONDS = 0.2
"""Wait after replacing a void lease: another machine that saw the same one may have replaced it too."""
_START_SLACK_SECONDS = 2.0
"""Start times are derived from the boot time, which shifts when the clock is set."""


@dataclass(frozen=True)
class Holder:
    """A process, distinct from all others on this machine, on others, and before a restart.

    `machine` is the machine's permanent id, `boot` changes with each restart, `space` is the container in
    which `pid` counts; `started` is in seconds since 1970.
    """

    pid: int
    host: str
    since: str
    machine: str
    boot: str
    space: str
    started: float
    token: str

    @classmethod
    def current(cls) -> "Holder":
        namespace = Path("/proc/self/ns/pid")
        return cls(
            pid=os.getpid(),
            host=socket.gethostname(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_read_line(Path("/etc/machine-id")),
            boot=_read_line(Path("/proc/sys/kernel/random/boot_id")),
            space=str(namespace.readlink()) if namespace.is_symlink() else "",
            started=_start_time(os.getpid()) or 0.0,
            token=os.urandom(8).hex(),
        )

    @classmethod
    def read(cls, path: Path) -> "Holder | None":
        """Return the holder that a lease names; None where it is missing or cannot be read."""
        try:
            return cls.load(path)
        except (OSError, ValueError):
            return None

    @classmethod
    def load(cls, path: Path) -> "Holder":
        """Return the holder that a lease names; raise OSError or ValueError where it cannot be read."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except TypeError as error:
            raise ValueError(f"no lease: {error}") from error

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    def is_here(self) -> bool:
        """Whether this process shares our process ids: same machine, boot and container."""
        ours = Holder.current()
        return all(
            getattr(self, name) == getattr(ours, name) for name in ("host", "machine", "boot", "space")
        )

    def is_gone(self, path: Path) -> bool:
        """Whether the holder of the lease at `path` has ended, or seems to have."""
        ours = Holder.current()
        if (self.host, self.machine) == (ours.host, ours.machine) and self.boot != ours.boot:
            return True
        if self.is_here():
            started = _start_time(self.pid)
            return started is None or abs(started - self.started) > _START_SLACK_SECONDS
        return _is_stale(path)


def lock_holder(path: Path) -> Holder | None:
    """Return who holds the lock now, or None where it is free; does not take it or wait."""
    holder = Holder.read(path)
    return None if holder is None or holder.is_gone(path) else holder


def claim(path: Path, mine: Holder, *, same_machine_is_void: bool) -> bool:
    """Create the lease, in place of a void one if necessary; return whether it is ours.

    Args:
        path: the lease.
        mine: who claims it.
        same_machine_is_void: the kernel's lock shows that no process of this machine holds it.
    """
    if _create(path, mine):
        return True
    other = Holder.read(path)
    if other is None:
        is_void = _is_stale(path)
    else:
        is_void = (same_machine_is_void and other.is_here()) or other.is_gone(path)
    if not (is_void and _remove(path, other) and _create(path, mine)):
        return False
    if other is None or not other.is_here():
        time.sleep(_SETTLE_SECONDS)
    return _settled_holder(path) == mine


def _settled_holder(path: Path) -> Holder | None:
    """Return the holder; without one read again: another controller may put ours back (`_remove`)."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while (holder := Holder.read(path)) is None and time.monotonic() < deadline:
        time.sleep(_SETTLE_SECONDS / 20)
    return holder


def release(path: Path, mine: Holder) -> None:
    """Remove the lease if it is still ours."""
    if Holder.read(path) == mine:
        path.unlink(missing_ok=True)


class Heartbeat:
    """Touches the lease while the block runs; `lost` is set when another process has taken it over.

    That happens to a process that was suspended for longer than a lease lives. The main thread is then
    interrupted as by Ctrl-C, so that two controllers do not run side by side. A lease that cannot be read for
    a moment, as on a network file system, is read again; after the life of a lease it counts as lost, because
    another machine may have taken it over, and `fault` holds the error.
    """

    def __init__(self, path: Path, mine: Holder) -> None:
        self.lost = False
        self.fault: OSError | ValueError | None = None
        self._path, self._mine = path, mine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last_read = time.monotonic()
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self.lost = not self._touch()
                last_read = time.monotonic()
            except (OSError, ValueError) as error:
                if time.monotonic() - last_read > STALE_SECONDS:
                    self.lost, self.fault = True, error
            if self.lost:
                # In the background Ctrl-C is ignored; SIGTERM is not.
                ignored = signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None)
                interrupt = signal.SIGTERM if ignored else signal.SIGINT
                signal.pthread_kill(threading.main_thread().ident or 0, interrupt)
                return

    def _touch(self) -> bool:
        """Touch the lease, or create it again where it is missing; return whether it is ours."""
        try:
            ours = Holder.load(self._path) == self._mine
        except FileNotFoundError:
            try:
                return _create(self._path, self._mine) or Holder.load(self._path) == self._mine
            except OSError as error:
                if error.errno not in FULL_DISK:
                    raise
                return True  # the kernel's lock must suffice
        if ours:
            with suppress(OSError):  # tried again; the name shows who takes it over meanwhile
                os.utime(self._path)
        return ours


def _create(path: Path, mine: Holder) -> bool:
    """Create the lease atomically; return False where it exists."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}."
    ) as stream:
        json.dump(asdict(mine), stream)
        stream.flush()
        try:
            os.link(stream.name, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            try:
                with path.open("x", encoding="utf-8") as lease:
                    json.dump(asdict(mine), lease)
            except FileExistsError:
                return False
    return True


def _remove(path: Path, void: Holder | None) -> bool:
    """Remove the lease that was found void, and no other: it is renamed and compared first."""
    aside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True
    if Holder.read(aside) != void:
        if not path.exists():
            aside.rename(path)
        return False
    aside.unlink()
    return True


def _is_stale(path: Path) -> bool:
    """Whether the lease was not touched for `STALE_SECONDS`, by the clock of the shared file system."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as probe:
            now = Path(probe.name).stat().st_mtime
        return now - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return True


def _start_time(pid: int) -> float | None:
    """Return the start time of a process, or None where it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def _read_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


@contextmanager
def exclusive_lock(path: Path, wait_seconds: float = 0.0) -> Iterator[Fence | None]:
    """Hold the lock at `path` for the length of the block; yield the fencing token, None on a full disk.

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
                yield take_over(path.with_name("fence"), since=mine.since)
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


def _acquire_waiting(stream: IO[str], path: Path, wait_seconds: float) -> Holder:
    deadline = time.monotonic() + wait_seconds
    announced = False
    while (mine := _acquire(stream, path)) is None:
        if time.monotonic() >= deadline:
            raise WorkspaceError(_in_use_message(path))
        if not announced:
            say(f"waiting: {Holder.read(path) or 'another process'} uses {path.parent.parent}", "warn")
            announced = True
        time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
    return mine


def _acquire(stream: IO[str], path: Path) -> Holder | None:
    """Return this process as the holder, or None where another one holds the lock."""
    has_kernel_lock = True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_KERNEL_LOCK:
            return None
        has_kernel_lock = False
    mine = Holder.current()
    try:
        if claim(path, mine, same_machine_is_void=has_kernel_lock):
            return mine
    except OSError as error:
        # The kernel's lock suffices without a lease, and `slicewise clean` must start on a full disk.
        if has_kernel_lock and error.errno in FULL_DISK:
            return mine
        raise
    if has_kernel_lock:
        fcntl.flock(stream, fcntl.LOCK_UN)
    return None


def _in_use_message(path: Path) -> str:
    return (
        f"{path.parent.parent} is in use by {Holder.read(path) or 'another process'}; wait for it to end "
        "(--wait), stop it, or choose another --workspace"
    )
