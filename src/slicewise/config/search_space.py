"""The search space of `slicewise tune`: which values a key may have, written in place of one.

log(1e-5,1e-2)    a number between two, uniform in its logarithm
uniform(0,0.5)    a number between two
int(2,8)          a whole number between two, both included; int(8,64,8) in steps of 8
log_int(4,64)     a whole number, uniform in its logarithm
choice(a,b,null)  one of these values, each written as after `=`
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from slicewise.config.keys import closest_match
from slicewise.core.errors import UsageError

_CALL: Final = re.compile(r"(?P<kind>[a-z_]+)\((?P<arguments>.*)\)", re.DOTALL)
_OPENING, _CLOSING = "[({", "])}"
_LARGEST: Final = 1 << 53


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`."""

    low: float
    high: float
    is_log: bool = False
    is_int: bool = False
    step: int = 1

    @property
    def texts(self) -> tuple[str, ...]:
        """The ends as text; they show whether the configuration allows the range."""
        return self.text(self.low), self.text(self.high)

    def text(self, value: float) -> str:
        """Return a value as it is written after `=`."""
        return str(int(value)) if self.is_int else repr(float(value))


@dataclass(frozen=True)
class Choice:
    """One of several values, as they are written after `=`."""

    texts: tuple[str, ...]

    def text(self, value: str) -> str:
        """Return a value as it is written after `=`."""
        return value


Space = Range | Choice


@dataclass(frozen=True)
class Parameter:
    """What is searched: a name, the keys that get its value, the space of values, and how that was typed."""

    name: str
    keys: tuple[str, ...]
    space: Space
    typed: str

    def overrides(self, text: str) -> list[str]:
        """Return the overrides that set all keys to a value."""
        return [f"{key}={text}" for key in self.keys]


def parse_space(key: str, value: str) -> Space | None:
    """Return the search space that stands in place of a value; None where it is a plain value.

    Raises:
        UsageError: it is meant as a search space and is none.
    """
    call = _CALL.fullmatch(value.strip())
    if call is None:
        return None
    kind, arguments = call["kind"], _split(call["arguments"])
    if kind not in _KINDS:
        match = closest_match(kind, _KINDS)
        guess = f"did you mean {match}()? " if match else ""
        known = ", ".join(f"{each}()" for each in _KINDS)
        raise UsageError(f"{key}={value}: there is no search space {kind}(); {guess}there are {known}")
    try:
        return _KINDS[kind](arguments)
    except ValueError as error:
        raise UsageError(f"{key}={value}: {error}") from error


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _numbers(arguments: Sequence[str], kind: str, most: int = 2) -> list[float]:
    if not 2 <= len(arguments) <= most:
        more = f", and perhaps a step: {kind}(LOW,HIGH,STEP)" if most > 2 else ""
        raise ValueError(f"{kind}() takes the lowest and the highest number, {kind}(LOW,HIGH){more}")
    try:
        numbers = [float(text) for text in arguments]
    except ValueError:
        raise ValueError(
            f"{kind}() takes numbers, such as {kind}(1,8); for words write choice(a,b)"
        ) from None
    if not all(abs(number) < _LARGEST and math.isfinite(number) for number in numbers):
        raise ValueError("a number is infinite, NaN or too large")
    if numbers[0] >= numbers[1]:
        raise ValueError(
            f"the first number must be lower than the second one: {kind}({arguments[1]},{arguments[0]})"
        )
    return numbers


def _float(arguments: Sequence[str], *, is_log: bool) -> Space:
    low, high = _numbers(arguments, "log" if is_log else "uniform")
    if is_log and low <= 0:
        raise ValueError(
            "log() begins above 0, where the logarithm does; write uniform(0,...) for a range with 0"
        )
    return Range(low, high, is_log=is_log)


def _int(arguments: Sequence[str], *, is_log: bool) -> Space:
    numbers = _numbers(arguments, "log_int" if is_log else "int", 2 if is_log else 3)
    if any(number != int(number) for number in numbers):
        raise ValueError("int() and log_int() take whole numbers; write uniform() or log() for others")
    step = int(numbers[2]) if len(numbers) > 2 else 1
    if step < 1 or (numbers[1] - numbers[0]) % step:
        raise ValueError("the highest number must be a whole number of steps above the lowest one")
    if is_log and numbers[0] < 1:
        raise ValueError("log_int() begins at 1 or above")
    return Range(numbers[0], numbers[1], is_log=is_log, is_int=True, step=step)


def _choice(arguments: Sequence[str]) -> Space:
    if len(arguments) < 2 or not all(arguments) or len({*arguments}) < len(arguments):
        raise ValueError("choice() takes two or more values, each once: choice(a,b)")
    return Choice(tuple(arguments))


_KINDS: Final[dict[str, Callable[[Sequence[str]], Space]]] = {
    "log": lambda arguments: _float(arguments, is_log=True),
    "uniform": lambda arguments: _float(arguments, is_log=False),
    "int": lambda arguments: _int(arguments, is_log=False),
    "log_int": lambda arguments: _int(arguments, is_log=True),
    "choice": _choice,
}
