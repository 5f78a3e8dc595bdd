"""The terminal output: coloured lines, and below them one progress bar per long job.

A stream that is closed, full, unread or unable to encode a character never stops the work: the results are
files and the exit code.
"""

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Final, Literal, TextIO, TypeVar, cast

from colorama import Fore, Style, just_fix_windows_console

from slicewise.core import activity
from slicewise.core.redact import redact

T = TypeVar("T")
Tone = Literal["plain", "header", "good", "warn", "bad", "dim"]

_CODES: Final[dict[Tone, str]] = {
    "plain": "",
    "header": Style.BRIGHT + Fore.CYAN,
    "good": Fore.GREEN,
    "warn": Fore.YELLOW,
    "bad": Style.BRIGHT + Fore.RED,
    "dim": Style.DIM,
}
_ASCII: Final = str.maketrans({"–": "-", "−": "-", "…": "...", "“": '"', "”": '"', "×": "x", "→": "->"})
"""Replacements for the special characters of our texts where the encoding of a stream lacks them."""


_bars: list[Any] = []
"""The open bars, outermost first"""
_reader_gone = threading.Event()
"""Set when the reader of the output has gone (`| head -1`)"""


class _SafeStream:
    """A text stream that drops what it cannot write instead of raising."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text unchanged; tqdm moves the cursor."""
        _write(self.stream, text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: `write` flushes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _GuardedStream(_SafeStream):
    """A standard stream for text that does not come from `say`: argparse, warnings, logs of libraries."""

    _partial_line = ""

    def write(self, text: str) -> int:
        """Write text; where bars are open, above them and in whole lines."""
        lines, self._partial_line = self._partial_line + text, ""
        if _bars:
            whole, end, self._partial_line = lines.rpartition("\n")
            lines = whole + end
        if lines:
            _print(self.stream, lines)
        return len(text)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Guard standard output and error while the block runs; replace closed streams by the null device.

    A file that is opened later would otherwise get their number, and the output of child processes.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: PTH123, SIM115
            os.set_inheritable(null.fileno(), True)
            setattr(sys, name, null)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _GuardedStream(stream)) for stream in before)
    try:
        yield
    finally:
        close_bars()
        sys.stdout, sys.stderr = before
        for stream in before:
            _flush(stream)


def _flush(stream: TextIO) -> None:
    """Flush a stream, or discard its buffer: Python flushes at exit and changes the exit code on an error."""
    try:
        stream.flush()
    except ValueError:  # closed
        return
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _print(stream: TextIO | None, text: str) -> None:
    """Write whole lines to a stream, above the bars on a terminal."""
    if stream is None:
        return
    bars = [*_bars] if is_terminal(stream) else []
    for bar in bars:
        bar.clear()
    _write(stream, text)
    for bar in bars:
        bar.refresh()


def _write(stream: TextIO, text: str) -> None:
    try:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _reader_gone.set()
    except (OSError, ValueError):  # disk full, terminal gone, stream closed
        return


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is an open terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def is_unread() -> bool:
    """Whether the reader of the output has gone; a command that only displays can then end."""
    return _reader_gone.is_set()


def use_colours(stream: TextIO | None) -> bool:
    """Whether to colour: on a terminal with colours, unless NO_COLOR is set (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, tone: Tone, stream: TextIO | None = None) -> str:
    """Return `text` in the tone's colour; unchanged where the stream (default: stdout) has no colours."""
    code = _CODES[tone]
    return f"{code}{text}{Style.RESET_ALL}" if code and use_colours(stream or sys.stdout) else text


def say(text: str = "", tone: Tone = "plain") -> None:
    """Print a line to standard output, credentials removed."""
    just_fix_windows_console()
    _print(_raw(sys.stdout), paint(redact(text), tone) + "\n")


def print_error(text: str) -> None:
    """Print an error to standard error, credentials removed."""
    _print(_raw(sys.stderr), paint("error: ", "bad", sys.stderr) + redact(text) + "\n")


def replace_lines(number: int, text: str) -> None:
    """Print `text` in place of the last `number` lines of a terminal."""
    if number:
        _print(_raw(sys.stdout), f"\x1b[{number}A\x1b[J")
    say(text)


def _raw(stream: TextIO | None) -> TextIO | None:
    return stream.stream if isinstance(stream, _GuardedStream) else stream


def close_bars() -> None:
    """Remove all bars, after a failure."""
    while _bars:
        _bars.pop().close()


def progress(iterable: Iterable[T], *, desc: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield the items of `iterable`, with a progress bar on a terminal."""
    size = len(iterable) if total is None and isinstance(iterable, Sized) else total
    with progress_bar(desc=desc, total=size, unit=unit) as bar:
        for item in iterable:
            yield item
            bar.update()


@contextmanager
def progress_bar(
    *, desc: str, total: int | None, unit: str = "it", initial: int = 0
) -> Iterator[activity.Job]:
    """Yield a bar, drawn below the lines of a terminal; `unit="B"` counts bytes in MB and GB."""
    stream, job = _raw(sys.stderr), activity.Job(desc, total, unit, initial)
    with activity.job(job):
        if stream is None or not is_terminal(stream):
            yield job
            return
        from tqdm import tqdm

        job.drawn = tqdm(
            desc=desc, total=total, unit=unit, initial=initial, unit_scale=unit == "B",
            file=_SafeStream(stream), dynamic_ncols=True, leave=False,
        )  # fmt: skip
        _bars.append(job.drawn)
        try:
            yield job
        finally:
            job.drawn.close()
            _bars[:] = [bar for bar in _bars if bar is not job.drawn]
