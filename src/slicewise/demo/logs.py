"""Log files of the services. Each service rotates its own, so they stay bounded under any supervisor.

`python -m slicewise.demo.logs LOG MODULE ARGUMENT...` runs a module in this process, with its output in LOG.
A service writes to its file directly: the end of a supervisor loses no line. A full disk ends and blocks no
service, it loses lines.
"""

import io
import os
import runpy
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from slicewise.core.disk import describe_disk_error

SERVICES: Final = ("api", "page", "supervisor")
LOG_BYTES: Final = 4 << 20
"""Size beyond which a log is rotated."""
NUM_KEPT: Final = 3
"""Rotated logs that are kept: LOG.1 is the latest one."""
_CHECK_SECONDS = 1.0


def log_path(folder: Path, service: str) -> Path:
    return folder.absolute() / f"demo-{service}.log"


def _kept(path: Path) -> list[Path]:
    """Return the paths of a log and of its rotated ones, newest first."""
    return [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, NUM_KEPT + 1))]


def rotate_log(path: Path) -> None:
    """Rename LOG to LOG.1, LOG.1 to LOG.2 and so on; the oldest one is deleted."""
    for older, newer in pairwise(reversed(_kept(path))):
        if newer.exists():
            newer.replace(older)


class _LogStream(io.FileIO):
    """A standard stream that drops what cannot be written."""

    def write(self, data: Any) -> int:
        with suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes


def redirect_output(path: Path) -> None:
    """Append the standard output and error of this process to a file."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)


def update_output(path: Path) -> None:
    """Rotate the log of this process if it is long; write to a new one if it was moved or deleted.

    Raises:
        OSError: the new one cannot be opened; output goes where it went until now.
    """
    written = os.fstat(1)
    if path.exists() and os.path.samestat(written, path.stat()):
        if written.st_size <= LOG_BYTES:
            return
        rotate_log(path)
    redirect_output(path)


def _keep_bounded(path: Path) -> None:
    while True:
        time.sleep(_CHECK_SECONDS)
        with suppress(OSError):  # tried again
            update_output(path)


class LogReader:
    """Reads the lines of a log as they are written, through rotations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = self._offset = -1
        self._rest = b""

    def lines(self) -> list[str]:
        """Return the lines that were completed since the last call."""
        for path in reversed(_kept(self.path)[:2]):  # first what was written until the rotation
            with suppress(FileNotFoundError), path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino == self._inode and status.st_size >= self._offset:
                    file.seek(self._offset)
                elif path != self.path:
                    continue
                self._rest += file.read()
                self._inode, self._offset = status.st_ino, file.tell()
        *lines, self._rest = self._rest.split(b"\n")
        return [_decode(line) for line in lines]

    def tail(self, number: int) -> list[str]:
        """Return the last lines, of rotated logs where the current one has fewer."""
        lines = [*self.lines(), *([_decode(self._rest)] if self._rest else [])]
        self._rest = b""
        for older in _kept(self.path)[1:]:
            if len(lines) < number and older.exists():
                lines = [*map(_decode, older.read_bytes().split(b"\n")[:-1]), *lines]
        return lines[max(0, len(lines) - number) :]


def _decode(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")


def quote_log(path: Path) -> str:
    """Return the last lines of a log, indented for an error message."""
    return "\n".join(f"    {line}" for line in LogReader(path).tail(15)) or "    (the log is empty)"


def main(argv: Sequence[str]) -> int:
    """Run a module as `python -m` does, with its output in a log."""
    path, module = Path(argv[0]), argv[1]
    try:
        redirect_output(path)
    except OSError as error:
        sys.stderr.write(f"{path}: {describe_disk_error(error)}; {module} runs without a log\n")
    threading.Thread(target=_keep_bounded, args=(path,), name="log", daemon=True).start()
    sys.argv = [*argv[1:]]
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            _LogStream(number, "w", closefd=False), "utf-8", "backslashreplace", line_buffering=True
        )
        for number in (1, 2)
    )
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # PM2 stops a service by SIGINT
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
