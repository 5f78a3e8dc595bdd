"""What a person at a terminal sees: coloured status lines and one progress bar per long job."""

import os
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

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
    sys.stdout.write(paint(redact(text), tone) + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Print an error for that person, credentials left out."""
    sys.stdout.flush()
    sys.stderr.write(paint("error: ", "bad") + redact(text) + "\n")


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
