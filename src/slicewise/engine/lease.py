"""A lock as a file that names its holder: for folders that several machines share."""

import errno
import json
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
_SETTLE_SECONDS = 0.2
"""After a void lease was replaced, another machine that saw the same void one may have done so too."""
_START_SLACK_SECONDS = 2.0
"""Start times are derived from the boot time, which moves a little when the clock is set."""


@dataclass(frozen=True)
class Holder:
    """A process, told apart from all others: of this machine, of others, and of earlier boots.

    `machine` is what a machine keeps for life, `boot` what changes when it is started anew, `space` the
    container in which `pid` counts; `started` is in seconds since 1970.
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
        return cls(
            pid=os.getpid(),
            host=socket.gethostname(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_read_line(Path("/etc/machine-id")),
            boot=_read_line(Path("/proc/sys/kernel/random/boot_id")),
            space=_pid_namespace(),
            started=_start_time(os.getpid()) or 0.0,
            token=secrets.token_hex(8),
        )

    @classmethod
    def read(cls, path: Path) -> "Holder | None":
        """Return the holder that a lease names; None where there is none or it cannot be read."""
        try:
            return cls.load(path)
        except (OSError, ValueError):
            return None

    @classmethod
    def load(cls, path: Path) -> "Holder":
        """Return the holder that a lease names.

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be read now.
            ValueError: it names nobody.
        """
        try:
            return cls(**json.loads(path.read_bytes()))
        except TypeError as error:
            raise ValueError(f"no lease: {error}") from error

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    def is_here(self) -> bool:
        """Whether this is a process whose id can be looked up from here."""
        current = Holder.current()
        return (self.host, self.machine, self.boot, self.space) == (
            current.host,
            current.machine,
            current.boot,
            current.space,
        )

    def is_gone(self, path: Path) -> bool:
        """Whether the holder of the lease at `path` has ended, or seems to have."""
        current = Holder.current()
        if (self.host, self.machine) == (current.host, current.machine) and self.boot != current.boot:
            return True
        if self.is_here():
            started = _start_time(self.pid)
            return started is None or abs(started - self.started) > _START_SLACK_SECONDS
        return _is_stale(path)


def claim(path: Path, mine: Holder, *, same_machine_is_void: bool) -> bool:
    """Create the lease, in the place of a void one if need be; return whether it is ours.

    Args:
        path: the lease.
        mine: who claims it.
        same_machine_is_void: the kernel has shown that no process of this machine holds it.
    """
    if _create(path, mine):
        return True
    other = Holder.read(path)
    void = other is not None and ((same_machine_is_void and other.is_here()) or other.is_gone(path))
    if not void and not (other is None and _is_stale(path)):
        return False
    if not _remove(path, other) or not _create(path, mine):
        return False
    if other is None or not other.is_here():
        time.sleep(_SETTLE_SECONDS)
    return Holder.read(path) == mine


def release(path: Path, mine: Holder) -> None:
    """Remove the lease if it is still ours."""
    if Holder.read(path) == mine:
        path.unlink(missing_ok=True)


class Heartbeat:
    """Touches the lease while the block runs; `lost` when somebody else has taken it over.

    That happens to a process that was suspended for longer than a lease lives. The main thread is then
    interrupted as by Ctrl-C, so that two controllers do not go on side by side. A lease that cannot be read,
    as on a network file system for a moment, is looked at again; only when that lasts for as long as a lease
    lives, it counts as lost, for another machine may have taken it over unseen, and `fault` says why.
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
                _interrupt()
                return

    def _touch(self) -> bool:
        """Touch the lease, or create it anew where it is gone; return whether it is ours.

        Raises:
            OSError, ValueError: it cannot be read now.
        """
        try:
            ours = Holder.load(self._path) == self._mine
        except FileNotFoundError:
            return self._renew()
        if ours:
            with suppress(OSError):  # tried again; who takes it over meanwhile is seen by the name
                os.utime(self._path)
        return ours

    def _renew(self) -> bool:
        """Create the lease anew; where the disk is too full for it, the kernel's lock has to do."""
        try:
            return _create(self._path, self._mine) or Holder.load(self._path) == self._mine
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            return True


def _interrupt() -> None:
    """Stop the main thread as Ctrl-C does, or as SIGTERM where Ctrl-C is ignored (in the background)."""
    ignored = signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM if ignored else signal.SIGINT)


def _create(path: Path, mine: Holder) -> bool:
    """Create the lease whole or not at all; return False where there is one."""
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
            return _create_in_place(path, mine)
    return True


def _create_in_place(path: Path, mine: Holder) -> bool:
    try:
        with path.open("x", encoding="utf-8") as stream:
            json.dump(asdict(mine), stream)
    except FileExistsError:
        return False
    return True


def _remove(path: Path, void: Holder | None) -> bool:
    """Take away the lease that was found void, and no other: it is renamed and looked at before it goes."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
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
    """Whether the lease was not touched for long, by the clock of the file system that all machines see."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as probe:
            now = Path(probe.name).stat().st_mtime
        return now - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return True


def _start_time(pid: int) -> float | None:
    """Return when the process began, or None where there is no living one."""
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


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
