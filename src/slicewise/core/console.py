"""What a person at a terminal sees: coloured status lines and one progress bar per long job."""

import os
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TextIO, TypeVar

from colorama import Fore, Style, just_fix_windows_console

from slicewise.core import live
from slicewise.core.redact import redact

T = TypeVar("T")
Tone = Literal["plain", "header", "good", "warn", "bad", "dim"]

_CODES: dict[Tone, str] = {
    "plain": "",
    "header": Style.BRIGHT + Fore.CYAN,
    "good": Fore.GREEN,
    "warn": Fore.YELLOW,
    "bad": Style.BRIGHT + Fore.RED,
    "dim": Style.DIM,
}


class Bar(Protocol):
    """A progress bar that is advanced by hand."""

    def update(self, n: float = 1) -> Any: ...
    def set_postfix_str(self, s: str) -> Any: ...


@dataclass
class _Unread:
    """Whether output that nobody reads is no reason to stop."""

    allowed: bool = False


_unread = _Unread()


@dataclass(frozen=True)
class _FollowedBar:
    """A bar whose numbers other terminals can see too."""

    bar: Bar
    job: live.Job

    def update(self, n: float = 1) -> None:
        self.job.done += n
        self.bar.update(n)

    def set_postfix_str(self, s: str) -> None:
        self.job.note = s
        self.bar.set_postfix_str(s)


def colours_wanted() -> bool:
    """Colour only on a terminal, and never where NO_COLOR is set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def paint(text: str, tone: Tone) -> str:
    """Wrap `text` in the tone's colour, or return it as it is where colour is not wanted."""
    code = _CODES[tone]
    return f"{code}{text}{Style.RESET_ALL}" if code and colours_wanted() else text


def say(text: str = "", tone: Tone = "plain") -> None:
    """Print one line for the person who started the command."""
    just_fix_windows_console()
    try:
        _write(sys.stdout, paint(redact(text), tone))
    except BrokenPipeError:
        if not _unread.allowed:
            raise


def complain(text: str) -> None:
    """Print an error for that person, credentials left out. The exit code tells it where nobody reads."""
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    with suppress(BrokenPipeError):
        _write(sys.stderr, paint("error: ", "bad") + redact(text))


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Go on while the block runs when nobody reads the output any more, as after `| head -1`."""
    before, _unread.allowed = _unread.allowed, True
    try:
        yield
    finally:
        _unread.allowed = before


def _write(stream: TextIO, line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError:
        # What is left in the buffer would fail again when Python ends, and change its exit code to 120.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        raise


def progress(iterable: Iterable[T], *, desc: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Show a bar over `iterable` on a terminal; elsewhere pass it through silently."""
    from tqdm import tqdm

    size = len(iterable) if total is None and isinstance(iterable, Sized) else total
    with live.job(desc, size, unit) as job:
        hidden = not sys.stderr.isatty()
        for item in tqdm(iterable, desc=desc, total=size, unit=unit, disable=hidden, leave=False):
            yield item
            job.done += 1


@contextmanager
def progress_bar(*, desc: str, total: int, unit: str = "it", initial: int = 0) -> Iterator[Bar]:
    """Yield a bar to advance by hand, with `unit="B"` counting bytes in MB and GB."""
    from tqdm import tqdm

    hidden = not sys.stderr.isatty()
    with (
        live.job(desc, total, unit, initial) as job,
        tqdm(
            desc=desc,
            total=total,
            unit=unit,
            initial=initial,
            unit_scale=unit == "B",
            disable=hidden,
            leave=False,
        ) as bar,
    ):
        yield _FollowedBar(bar, job)
