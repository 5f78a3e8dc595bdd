"""A small model of a terminal, and programs run in one."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Sequence
from dataclasses import dataclass, field

_TOKEN = re.compile(r"\x1b\[(?P<number>\d*)(?P<code>[A-Za-z])|(?P<control>[\r\n])|(?P<text>[^\x1b\r\n]+)")
_SECONDS = 120
COLUMNS = 100


@dataclass
class Terminal:
    """Lines of text and a cursor; it knows what tqdm and colorama send, and wraps what is too long for it."""

    columns: int = COLUMNS
    lines: list[str] = field(default_factory=lambda: [""])
    wrapped: set[int] = field(default_factory=set)
    """Rows that continue the one above."""
    row: int = 0
    column: int = 0

    def feed(self, sent: str) -> None:
        for token in _TOKEN.finditer(sent):
            if text := token["text"]:
                self._print(text)
            elif token["control"] == "\r":
                self.column = 0
            elif token["control"] == "\n":
                self._down()
            elif token["code"] == "A":
                self.row = max(0, self.row - int(token["number"] or 1))
            elif token["code"] == "J":
                self.lines[self.row :] = [self.lines[self.row][: self.column]]
            else:
                assert token["code"] == "m", f"{token[0]!r} is not known to this model"

    def _print(self, text: str) -> None:
        while text:
            if self.column == self.columns:  # a line is wrapped when more comes, not when it is full
                self._down()
                self.wrapped.add(self.row)
                self.column = 0
            piece, text = text[: self.columns - self.column], text[self.columns - self.column :]
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + piece + line[self.column + len(piece) :]
            self.column += len(piece)

    def _down(self) -> None:
        self.row += 1
        self.wrapped.discard(self.row)
        if self.row == len(self.lines):
            self.lines.append("")

    @property
    def shown(self) -> list[str]:
        """The lines that are not empty; those that were wrapped are whole again."""
        lines: list[str] = []
        for row, line in enumerate(self.lines):
            if row in self.wrapped:
                lines[-1] += line
            else:
                lines.append(line)
        return [line.rstrip() for line in lines if line.strip()]


def in_terminal(command: Sequence[str], columns: int = COLUMNS, **variables: str) -> tuple[int, str]:
    """Run a program whose standard streams are a terminal; return its exit code and all that it sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm"} | variables
    ) as process:
        os.close(theirs)
        sent = b"".join(iter(lambda: _read(ours), b""))
        os.close(ours)
        return process.wait(_SECONDS), sent.decode()


def _read(descriptor: int) -> bytes:
    """Return the available bytes; none once the program has ended, which is an error on Linux."""
    ready, _, _ = select.select([descriptor], [], [], _SECONDS)
    try:
        return os.read(descriptor, 1 << 16) if ready else b""
    except OSError:
        return b""
