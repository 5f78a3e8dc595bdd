"""Where the processes of a training run besides the first one, and how all of them meet."""

import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import distributed
from torch.distributed import FileStore, Store  # type: ignore[attr-defined]

from slicewise.core.errors import SliceWiseError
from slicewise.core.parallel import end_with_parent

BACKENDS: Final = {"cpu": "gloo", "cuda": "nccl"}
_TIMEOUT: Final = timedelta(days=1)
"""Of a process that waits for another one; one that ends is noticed at once"""
PATIENCE_SECONDS: Final = 10.0
_INTERFACE: Final = "GLOO_SOCKET_IFNAME"


class Companion(Protocol):
    """Another process of a training."""

    def failure(self) -> str | None:
        """Wait a little for its end; return why it failed, empty if it was killed, or None."""
        ...

    def kill(self) -> None: ...


class Launcher(Protocol):
    """Where the other processes of a training run, and how all of them meet."""

    def num_here(self, size: int) -> int:
        """Return how many of `size` processes see the GPUs that this one sees."""
        ...

    def meet(self, size: int) -> AbstractContextManager[Store]:
        """Open what the processes find each other by, as the first one."""
        ...

    def start(self, number: int, size: int, device: str, work: bytes) -> Companion:
        """Start a process that calls `take_part`, with the same store."""
        ...


def current_launcher() -> Launcher:
    """Return what starts the processes of a training here."""
    return _launcher


@contextmanager
def launched_by(launcher: Launcher) -> Iterator[None]:
    """Let another launcher than that of this machine start the processes while the block runs."""
    global _launcher
    before, _launcher = _launcher, launcher
    try:
        yield
    finally:
        _launcher = before


def take_part(number: int, size: int, device: str, store: Store, work: bytes) -> str | None:
    """Do the work as process `number`, and say nothing; return why it failed, or None."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            function: Callable[[], object] = pickle.loads(work)  # noqa: S301  # of `join_processes`
            with process_group(number, size, device, store):
                function()
        except Exception as error:
            return str(error) if isinstance(error, SliceWiseError) else repr(error)
    return None


@contextmanager
def process_group(number: int, size: int, device: str, store: Store) -> Iterator[None]:
    """Be one of the processes that train together while the block runs."""
    if device == "cuda":  # each process has one of its own, and on Ray sees no other
        torch.cuda.set_device(number % torch.cuda.device_count())
    distributed.init_process_group(
        BACKENDS[device], store=store, rank=number, world_size=size, timeout=_TIMEOUT
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


class _OnThisMachine:
    """Processes that meet by a file and connect inside this machine."""

    def __init__(self) -> None:
        self._path = ""

    def num_here(self, size: int) -> int:
        return size

    @contextmanager
    def meet(self, size: int) -> Iterator[Store]:
        with tempfile.TemporaryDirectory(prefix="slicewise-") as folder, connect_by("lo"):
            self._path = str(Path(folder) / "store")
            yield _file_store(self._path, size)

    def start(self, number: int, size: int, device: str, work: bytes) -> Companion:
        context = multiprocessing.get_context("spawn")
        receiving, sending = context.Pipe(duplex=False)
        words = (number, size, device, self._path, work, sending)
        process = context.Process(target=_serve, args=words, daemon=True)
        # It inherits the mask: Ctrl-C goes to the whole process group, and is the first process's matter.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        sending.close()
        return _Process(process, receiving)


_launcher: Launcher = _OnThisMachine()


@dataclass(frozen=True)
class _Process:
    """A companion on this machine."""

    process: multiprocessing.process.BaseProcess
    failures: Connection

    def failure(self) -> str | None:
        self.process.join(PATIENCE_SECONDS)
        if not self.failures.poll():
            return None
        try:
            return str(self.failures.recv())
        except EOFError:
            return None if self.process.exitcode == 0 else ""

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(number: int, size: int, device: str, path: str, work: bytes, failures: Connection) -> None:
    """Take part in a process of this machine, which ends with its parent."""
    end_with_parent()
    if failure := take_part(number, size, device, _file_store(path, size), work):
        failures.send(failure)
        sys.exit(1)


def _file_store(path: str, size: int) -> Store:
    store: Store = FileStore(path, size)
    return store


@contextmanager
def connect_by(prefix: str) -> Iterator[None]:
    """Let gloo connect the processes by an interface whose name begins so, whatever the host's name means."""
    interface = next((name for _, name in socket.if_nameindex() if name.startswith(prefix)), None)
    if interface is None or _INTERFACE in os.environ:
        yield
        return
    os.environ[_INTERFACE] = interface
    try:
        yield
    finally:
        del os.environ[_INTERFACE]
