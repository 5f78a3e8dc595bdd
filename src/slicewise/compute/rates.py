"""Measure how fast settings of the processor are, in turn, within a fraction of a second."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import psutil

from slicewise.compute.workload import Work

_ROUNDS: Final = 6
_SECONDS: Final = 0.03
"""Of one setting in one round"""
_LIMIT: Final = 0.5
"""Seconds after which no further round begins"""
_HOPELESS: Final = 0.6
"""A setting below this share of the best rate is not measured again"""
_CLEAR: Final = 1.3
"""A lead that ends the measurement"""
_HAS_CORES: Final = 0.8
"""Share of the time that threads which spin must have spent on a core"""
_WORTH: Final = 1.06
"""A gain for which the setting is changed"""


class Setting(NamedTuple):
    """A number of threads, and whether they sleep while they wait for each other, or spin."""

    number: int
    sleeping: bool | None = False
    """None where that is as the user or the system has it"""

    @property
    def spins(self) -> bool:
        """Whether several threads spin while they wait for each other."""
        return self.number > 1 and self.sleeping is False

    def __str__(self) -> str:
        if self.number == 1:
            return "1 thread"
        waiting = {True: " sleeping", False: " spinning", None: ""}[self.sleeping]
        return f"{self.number} threads{waiting}"


@dataclass
class Rate:
    """What one setting has done so far."""

    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, work: Work) -> None:
        """Take steps for a few hundredths of a second."""
        started, cpu_started, seconds = time.perf_counter(), time.process_time(), 0.0
        while seconds < _SECONDS:
            work()
            self.steps += 1
            seconds = time.perf_counter() - started
        self.seconds += seconds
        self.cpu_seconds += time.process_time() - cpu_started

    def per_second(self, setting: Setting) -> float:
        """Return steps a second; 0 for threads that spin and did not have their cores to themselves.

        Their speed is a matter of luck then: now and then one step takes seconds.
        """
        if setting.spins and self.cpu_seconds < _HAS_CORES * setting.number * self.seconds:
            return 0.0
        return self.steps / self.seconds if self.steps else 0.0


def idle_seconds() -> float:
    """Return for how long all cores of this machine together have had nothing to do."""
    return float(psutil.cpu_times().idle)


def measure(
    options: Sequence[Setting],
    use: Callable[[Setting], None],
    work: Work,
    idle: Callable[[], float] = idle_seconds,
) -> dict[Setting, float]:
    """Return steps a second of each setting; one that falls far behind is not measured to the end.

    Args:
        options: the settings to compare, those that spin last.
        use: makes a setting hold.
        work: takes one step.
        idle: seconds for which cores have been idle. Where none is while the others are measured, threads
            that spin are not tried: they would wait for each other, and one step can take seconds.
    """
    found = {option: Rate() for option in options}
    remaining, started, idle_before = list(options), time.perf_counter(), idle()
    rates: dict[Setting, float] = {}
    for number in range(_ROUNDS):
        for option in remaining:
            if not number and option.spins and option != options[0] and idle() == idle_before:
                continue
            use(option)
            found[option].add(work)
        rates = {option: rate.per_second(option) for option, rate in found.items()}
        best = max(rates.values())
        remaining = [option for option in reversed(remaining) if rates[option] >= _HOPELESS * best]
        if time.perf_counter() - started > _LIMIT or (number and _leads(rates)):
            break
    return rates


def _leads(rates: Mapping[Setting, float]) -> bool:
    first, second, *_ = sorted(rates.values(), reverse=True)
    return first > _CLEAR * second


def better(current: Setting, rates: Mapping[Setting, float]) -> Setting:
    """Return the fastest setting; the current one where the gain is within the error of measurement."""
    fastest = max(rates, key=lambda option: rates[option])
    return fastest if rates[fastest] > _WORTH * rates.get(current, 0.0) else current
