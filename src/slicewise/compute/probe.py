"""Measure how fast settings of the processor are, in turn, within a fraction of a second."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import psutil

from slicewise.compute.workload import Workload

_ROUNDS: Final = 6
_SECONDS: Final = 0.03
"""Of one setting in one round"""
_MAX_SECONDS: Final = 0.5
"""Seconds after which no further round begins"""
_MIN_SHARE: Final = 0.6
"""A setting below this share of the best rate is not measured again"""
_CLEAR_LEAD: Final = 1.3
"""A lead that ends the measurement"""
_MIN_CPU_SHARE: Final = 0.8
"""Share of the time that threads which spin must have spent on a core"""
_MIN_GAIN: Final = 1.06
"""A gain for which the setting is changed"""


class ThreadSetting(NamedTuple):
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

    def add(self, work: Workload) -> None:
        """Take steps for a few hundredths of a second."""
        started, cpu_started, seconds = time.perf_counter(), time.process_time(), 0.0
        while seconds < _SECONDS:
            work()
            self.steps += 1
            seconds = time.perf_counter() - started
        self.seconds += seconds
        self.cpu_seconds += time.process_time() - cpu_started

    def per_second(self, setting: ThreadSetting) -> float:
        """Return steps a second; 0 for threads that spin and did not have their cores to themselves.

        Their speed is a matter of luck then: now and then one step takes seconds.
        """
        if setting.spins and self.cpu_seconds < _MIN_CPU_SHARE * setting.number * self.seconds:
            return 0.0
        return self.steps / self.seconds if self.steps else 0.0


def idle_seconds() -> float:
    """Return for how long all cores of this machine together have had nothing to do."""
    return float(psutil.cpu_times().idle)


def measure_rates(
    options: Sequence[ThreadSetting],
    use: Callable[[ThreadSetting], None],
    work: Workload,
    idle: Callable[[], float] = idle_seconds,
) -> dict[ThreadSetting, float]:
    """Return steps a second of each setting; one that falls far behind is not measured to the end.

    Args:
        options: the settings to compare, those that spin last.
        use: makes a setting hold.
        work: takes one step.
        idle: seconds for which cores have been idle. Where none is while the others are measured, threads
            that spin are not tried: they would wait for each other, and one step can take seconds.
    """
    measured = {option: Rate() for option in options}
    remaining, started, idle_before = list(options), time.perf_counter(), idle()
    rates: dict[ThreadSetting, float] = {}
    for number in range(_ROUNDS):
        for option in remaining:
            if not number and option.spins and option != options[0] and idle() == idle_before:
                continue
            use(option)
            measured[option].add(work)
        rates = {option: rate.per_second(option) for option, rate in measured.items()}
        best = max(rates.values())
        remaining = [option for option in reversed(remaining) if rates[option] >= _MIN_SHARE * best]
        if time.perf_counter() - started > _MAX_SECONDS or (number and _leads(rates)):
            break
    return rates


def _leads(rates: Mapping[ThreadSetting, float]) -> bool:
    first, second, *_ = sorted(rates.values(), reverse=True)
    return first > _CLEAR_LEAD * second


def select_setting(current: ThreadSetting, rates: Mapping[ThreadSetting, float]) -> ThreadSetting:
    """Return the fastest setting; the current one where the gain is within the error of measurement."""
    fastest = max(rates, key=lambda option: rates[option])
    return fastest if rates[fastest] > _MIN_GAIN * rates.get(current, 0.0) else current
