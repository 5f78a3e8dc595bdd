"""The number of threads and how they wait: as configured, or the fastest of a few by a short measurement.

Only this module sets them: for training, evaluation, `predict`, the demo and the benchmarks.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

import cv2
import torch

from slicewise.compute.openmp import SleepingTeam, can_set_wait_policy
from slicewise.compute.probe import ThreadSetting, make_training_step, measure_rates, select_setting
from slicewise.core.console import say
from slicewise.core.machine import keep_freed_memory, usable_cores

_SHARE: Final = 0.02
"""Largest share of the time spent on measurements after the first one"""

log = logging.getLogger(__name__)


def requested_threads(configured: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of threads set by the user (`runtime.num_threads`, else OMP_NUM_THREADS), or 0."""
    text = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return configured or (int(text) if text.isascii() and text.isdecimal() else 0)


def candidate_settings(requested: int, cores: int, *, waiting: bool) -> tuple[ThreadSetting, ...]:
    """Return the settings to measure, the least harmful on a busy machine first.

    Args:
        requested: number of threads set by the user; 0 for none.
        cores: number of usable cores; candidates are this number halved repeatedly, down to 1.
        waiting: whether it can be chosen how threads wait.
    """
    numbers = (
        [requested] if requested else sorted({max(1, cores >> shift) for shift in range(cores.bit_length())})
    )
    single = [ThreadSetting(number) for number in numbers if number == 1]
    policies = (True, False) if waiting else (None,)
    return (
        *single,
        *(ThreadSetting(number, policy) for policy in policies for number in numbers if number > 1),
    )


@contextmanager
def tuned_threads(configured: int, what: str, device: str) -> Iterator["Threads"]:
    """Choose the threads for long work on a device, and set them while the block runs."""
    with Threads(configured, what) as threads:
        if device == "cpu" and (line := threads.choose()):
            say(f"  {line}", "dim")
        yield threads


class Threads:
    """Sets the threads of this process while a block runs, and restores the former ones.

    Args:
        configured: `runtime.num_threads`; 0 to choose.
        what: names the work in the log.
    """

    def __init__(self, configured: int, what: str) -> None:
        self._label = what
        self._requested = requested_threads(configured)
        self._sleeping_team: SleepingTeam | None = None
        self._before = (0, 0)
        self._next_measurement = 0.0
        self.setting = ThreadSetting(self._requested or usable_cores())

    @classmethod
    def for_short_work(cls, configured: int, what: str) -> Self:
        """Return threads for work too short for a measurement: they sleep while they wait.

        That is a little slower on an idle machine; spinning threads cost seconds on a busy one.
        """
        threads = cls(configured, what)
        number = threads.setting.number
        threads.setting = ThreadSetting(number, number > 1 and can_set_wait_policy())
        return threads

    def __enter__(self) -> Self:
        keep_freed_memory()
        self._before = (torch.get_num_threads(), cv2.getNumThreads())
        self._set(self.setting)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_sleeping_team()
        torch.set_num_threads(self._before[0])
        cv2.setNumThreads(self._before[1])

    def choose(self, number: int = 0) -> str | None:
        """Use the fastest setting, measured again after a while; return a line that describes a change.

        Args:
            number: number of threads, unless the user has set one, to choose how they wait; 0: choose both.
        """
        number = self._requested or number
        if number and number != self.setting.number:
            self._set(ThreadSetting(number))
            self._next_measurement = 0.0
        if time.monotonic() < self._next_measurement:
            return None
        is_first, before, started = not self._next_measurement, self.setting, time.monotonic()
        options = candidate_settings(number, usable_cores(), waiting=can_set_wait_policy())
        rates = self._measure(options) if len(options) > 1 else {options[0]: 1.0}
        self._set(select_setting(before, rates))
        ended = time.monotonic()
        self._next_measurement = ended + (ended - started) / _SHARE
        if len(rates) == 1 or not (is_first or self.setting != before):
            return None
        best = max(rates.values())
        shares = ", ".join(f"{option} {rate / best:.2f}" for option, rate in rates.items())
        line = f"{self._label}: {self.setting} (measured speed: {shares})"
        log.info(line)
        return line

    def _measure(self, options: Sequence[ThreadSetting]) -> dict[ThreadSetting, float]:
        work = make_training_step()
        for option in {option.number: option for option in reversed(options)}.values():  # the sleeping ones
            self._set(option)
            work()  # the first step with each number of threads compiles its kernels
        return measure_rates(options, self._set, work)

    def _set(self, setting: ThreadSetting) -> None:
        self._end_sleeping_team()
        torch.set_num_threads(setting.number)
        cv2.setNumThreads(setting.number)
        if setting.sleeping:
            self._sleeping_team = SleepingTeam(setting.number)
        self.setting = setting

    def _end_sleeping_team(self) -> None:
        if self._sleeping_team is not None:
            self._sleeping_team.close()
            self._sleeping_team = None
