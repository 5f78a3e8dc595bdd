"""What a person at a terminal sees: coloured status lines, and below them one progress bar per long job.

Every line and every bar is written here. A stream that is closed, full, unread or without the characters of a
text ends no work: the results are files and the exit code.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TextIO, TypeVar, cast

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
"""What stands for the characters of our own texts where a stream has none of them."""


class Bar(Protocol):
    """A progress bar that is advanced by hand."""

    def update(self, n: float = 1) -> Any: ...
    def set_postfix_str(self, s: str) -> Any: ...


@dataclass
class _Screen:
    """The bars that are open, outermost first, and whether the reader of the lines has left (`| head -1`)."""

    bars: list[Any] = field(default_factory=list)
    reader_gone: bool = False


_screen = _Screen()


class _SafeStream:
    """A text stream that loses what it cannot write instead of raising."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text as it is; a bar moves the cursor by itself."""
        _write(self.stream, text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: everything was flushed when it was written."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _GuardedStream(_SafeStream):
    """A standard stream for what does not come from `say`: argparse, warnings, log lines of libraries."""

    _partial_line = ""

    def write(self, text: str) -> int:
        """Write text above the open bars, there in whole lines alone."""
        lines, self._partial_line = self._partial_line + text, ""
        if _screen.bars:
            whole, end, self._partial_line = lines.rpartition("\n")
            lines = whole + end
        if lines:
            _print(self.stream, lines)
        return len(text)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Guard standard output and error while the block runs; open those of the process that are closed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, _open_null(number))
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _GuardedStream(stream)) for stream in before)
    try:
        yield
    finally:
        close_bars()
        sys.stdout, sys.stderr = before
        for stream in before:
            _flush(stream)


def _open_null(number: int) -> TextIO:
    """Open the null device in place of a closed stream; a file opened later would else get its number.

    Then what a child process or a C library prints would go into that file.
    """
    stream = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: PTH123, SIM115
    os.set_inheritable(stream.fileno(), True)
    return stream


def _flush(stream: TextIO) -> None:
    """Write out what is buffered: Python does it at its end, and would change the exit code if it fails."""
    try:
        stream.flush()
    except ValueError:  # it was closed
        return
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _print(stream: TextIO | None, text: str) -> None:
    """Write whole lines to a stream, above the bars where it is their terminal."""
    if stream is None:
        return
    bars = [*_screen.bars] if is_terminal(stream) else []
    for bar in bars:
        bar.clear()
    _write(stream, text)
    for bar in bars:
        bar.refresh()


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(_encodable(text, stream))
        stream.flush()
    except BrokenPipeError:
        _screen.reader_gone = True
    except (OSError, ValueError):  # the disk is full, the terminal is gone, the stream was closed
        return


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person may look at what is written there."""
    return stream is not None and not stream.closed and stream.isatty()


def is_unread() -> bool:
    """Whether the reader of the output has left; a verb that only shows something can then end."""
    return _screen.reader_gone


def use_colours(stream: TextIO | None) -> bool:
    """Colour only on a terminal that has any, and never where NO_COLOR is set (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, tone: Tone, stream: TextIO | None = None) -> str:
    """Wrap `text` in the tone's colour, or return it as it is where the stream (or stdout) has no colour."""
    code = _CODES[tone]
    return f"{code}{text}{Style.RESET_ALL}" if code and use_colours(stream or sys.stdout) else text


def say(text: str = "", tone: Tone = "plain") -> None:
    """Print one line for the person who started the command."""
    just_fix_windows_console()
    _print(_raw(sys.stdout), paint(redact(text), tone) + "\n")


def print_error(text: str) -> None:
    """Print an error for that person, credentials left out."""
    _print(_raw(sys.stderr), paint("error: ", "bad", sys.stderr) + redact(text) + "\n")


def replace_lines(number: int, text: str) -> None:
    """Print `text` in place of the last lines on a terminal."""
    if number:
        _print(_raw(sys.stdout), f"\x1b[{number}A\x1b[J")
    say(text)


def _raw(stream: TextIO | None) -> TextIO | None:
    return stream.stream if isinstance(stream, _GuardedStream) else stream


def close_bars() -> None:
    """Take the bars of work that has failed off the screen."""
    for bar in reversed(_screen.bars):
        bar.close()
    _screen.bars = []


def progress(iterable: Iterable[T], *, desc: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Show a bar over `iterable` on a terminal; elsewhere pass it through silently."""
    size = len(iterable) if total is None and isinstance(iterable, Sized) else total
    with progress_bar(desc=desc, total=size, unit=unit) as bar:
        for item in iterable:
            yield item
            bar.update()


@contextmanager
def progress_bar(*, desc: str, total: int | None, unit: str = "it", initial: int = 0) -> Iterator[Bar]:
    """Yield a bar to advance by hand, with `unit="B"` counting bytes in MB and GB."""
    with activity.job(desc, total, unit, initial) as job, _draw_bar(desc, total, unit, initial) as bar:
        yield _TrackedBar(bar, job)


@contextmanager
def _draw_bar(desc: str, total: int | None, unit: str, initial: int) -> Iterator[Bar | None]:
    """Draw a bar below the lines of a terminal."""
    from tqdm import tqdm

    stream = _raw(sys.stderr)
    if stream is None or not is_terminal(stream):
        yield None
        return
    bar = tqdm(
        desc=desc, total=total, unit=unit, initial=initial, unit_scale=unit == "B",
        file=_SafeStream(stream), dynamic_ncols=True, leave=False,
    )  # fmt: skip
    _screen.bars.append(bar)
    try:
        yield bar
    finally:
        bar.close()
        _screen.bars = [other for other in _screen.bars if other is not bar]


@dataclass(frozen=True)
class _TrackedBar:
    """A bar whose numbers other terminals can see too."""

    bar: Bar | None
    job: activity.Job

    def update(self, n: float = 1) -> None:
        self.job.done += n
        if self.bar is not None:
            self.bar.update(n)

    def set_postfix_str(self, s: str) -> None:
        self.job.note = s
        if self.bar is not None:
            self.bar.set_postfix_str(s)
