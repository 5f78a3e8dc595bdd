"""The number of threads and how they wait: as configured, or the fastest of a few by a short measurement.

Only this module sets them: for training, evaluation, `predict`, the demo and the benchmarks.

Between two parallel regions the threads of GNU OpenMP (libgomp) spin for milliseconds: fast on an idle
machine, very slow on a busy one, where a spinning thread occupies the core of the thread it waits for.
OMP_WAIT_POLICY decides this before the process starts. libgomp also stops spinning while it manages more
threads than there are cores (`gomp_throttled_spin_count_var` in config/linux/wait.h): a second team of
sleeping threads causes that. It changes no result.
"""

import ctypes
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import cv2
import psutil
import torch
from torch import Tensor, nn

from slicewise.core.console import say
from slicewise.core.machine import affinity_cores, keep_freed_memory, usable_cores

_SHARE: Final = 0.02
"""Largest share of the time spent on measurements after the first one"""
_ROUNDS: Final = 6
_SECONDS: Final = 0.03
"""Duration of one setting in one round"""
_MAX_SECONDS: Final = 0.5
"""Seconds after which no further round begins"""
_MIN_SHARE: Final = 0.6
"""Settings below this share of the best rate are not measured again"""
_CLEAR_LEAD: Final = 1.3
"""Ratio of the two best rates that ends the measurement"""
_MIN_CPU_SHARE: Final = 0.8
"""Smallest share of the time that spinning threads must have spent on a core"""
_MIN_GAIN: Final = 1.06
"""Smallest gain for which the setting is changed"""

_CORES: Final = affinity_cores()
"""At the time of the import of PyTorch, as counted by libgomp"""
_WAIT_VARIABLES: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

Workload = Callable[[], None]
log = logging.getLogger(__name__)


def make_training_step(precision: torch.dtype = torch.float32, side: int = 48) -> Workload:
    """Return a function that runs one training step of a few convolutions on `side` x `side` pixels.

    The operations last about as long as those of a U-Net on slices of 96 x 96, so threads synchronise as
    often. A larger `side` weighs arithmetic more against function calls. The global random state is left
    unchanged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(4, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            # an inverted residual without the residual (Sandler et al. 2018)
            nn.Conv2d(32, 96, 1, bias=False),
            nn.BatchNorm2d(96),
            nn.ReLU6(),
            nn.Conv2d(96, 96, 3, padding=1, groups=96, bias=False),
            nn.BatchNorm2d(96),
            nn.ReLU6(),
            nn.Conv2d(96, 32, 1, bias=False),
        ).to(memory_format=torch.channels_last)
        images = torch.randn(8, 4, side, side).contiguous(memory_format=torch.channels_last)
    enabled = precision != torch.float32

    def step() -> None:
        with torch.enable_grad(), torch.autocast("cpu", precision, enabled=enabled):
            output: Tensor = model(images)
        torch.autograd.backward(output.float().square().mean())

    return step


class ThreadSetting(NamedTuple):
    """A number of threads, and whether they sleep or spin while they wait for each other."""

    number: int
    sleeping: bool | None = False
    """None: as set by the user or the system"""

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
    """Steps and times of one setting."""

    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, work: Workload) -> None:
        """Run steps for a few hundredths of a second."""
        started, cpu_started, seconds = time.perf_counter(), time.process_time(), 0.0
        while seconds < _SECONDS:
            work()
            self.steps += 1
            seconds = time.perf_counter() - started
        self.seconds += seconds
        self.cpu_seconds += time.process_time() - cpu_started

    def per_second(self, setting: ThreadSetting) -> float:
        """Return steps per second; 0 for spinning threads that had to share their cores.

        Their speed is unpredictable: a step may take seconds.
        """
        if setting.spins and self.cpu_seconds < _MIN_CPU_SHARE * setting.number * self.seconds:
            return 0.0
        return self.steps / self.seconds if self.steps else 0.0


def measure_rates(
    options: Sequence[ThreadSetting],
    use: Callable[[ThreadSetting], None],
    work: Workload,
    idle: Callable[[], float] = lambda: psutil.cpu_times().idle,
) -> dict[ThreadSetting, float]:
    """Return the steps per second of each setting; slow settings are not measured to the end.

    Args:
        options: at least two settings to compare, the spinning ones last.
        use: applies a setting.
        work: runs one step.
        idle: returns the idle time of all cores. Where it stands still while the others are measured,
            spinning threads are not tried: they would wait for each other, and a step may take seconds.
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
        best, second, *_ = sorted(rates.values(), reverse=True)
        remaining = [option for option in reversed(remaining) if rates[option] >= _MIN_SHARE * best]
        if time.perf_counter() - started > _MAX_SECONDS or (number and best > _CLEAR_LEAD * second):
            break
    return rates


def select_setting(current: ThreadSetting, rates: Mapping[ThreadSetting, float]) -> ThreadSetting:
    """Return the fastest setting; the current one where the gain is within the error of measurement."""
    fastest = max(rates, key=lambda option: rates[option])
    return fastest if rates[fastest] > _MIN_GAIN * rates.get(current, 0.0) else current


def _describe_rates(rates: Mapping[ThreadSetting, float]) -> str:
    best = max(rates.values())
    shares = ", ".join(f"{option} {rate / best:.2f}" for option, rate in rates.items() if rate)
    excluded = ", ".join(str(option) for option, rate in rates.items() if not rate)
    return f"measured speed: {shares}{f'; not on busy cores: {excluded}' if excluded else ''}"


def can_set_wait_policy(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether threads can be made to sleep: with libgomp, unless the user has set the policy."""
    return not any(environment.get(name) for name in _WAIT_VARIABLES) and _gomp_parallel() is not None


class SleepingTeam:
    """Makes waiting threads of libgomp, in teams of `num_threads`, sleep at once, until it is closed."""

    def __init__(self, num_threads: int) -> None:
        self._ready, self._end = threading.Event(), threading.Event()
        size = max(2, _CORES - num_threads + 2)  # in all, one more than libgomp counted cores
        self._thread = threading.Thread(target=self._sleep, args=(size,), name="sleeping-team", daemon=True)
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """End the team; the others spin again."""
        self._end.set()
        self._thread.join()

    def _sleep(self, size: int) -> None:
        run_in_parallel = _gomp_parallel()
        if run_in_parallel is not None:
            run_in_parallel(ctypes.CDLL(None).getpid, None, size, 0)  # any harmless function
        self._ready.set()
        self._end.wait()


@cache
def _gomp_parallel() -> Callable[..., Any] | None:
    """Return `GOMP_parallel` of PyTorch's OpenMP; None where that is not libgomp (LLVM's has it, too)."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        function: Callable[..., Any] = library.GOMP_parallel
    except (OSError, AttributeError):
        return None
    return None if hasattr(library, "__kmpc_fork_call") else function


def requested_threads(configured: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of threads set by the user (`runtime.num_threads`, else OMP_NUM_THREADS), or 0."""
    text = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return configured or (int(text) if text.isascii() and text.isdecimal() else 0)


def candidate_settings(requested: int, cores: int, *, waiting: bool) -> tuple[ThreadSetting, ...]:
    """Return the settings to measure, the least harmful on a busy machine first.

    Their number of threads is that `requested`, or for 0 the cores halved repeatedly, down to 1; `waiting`
    says whether it can be chosen how threads wait.
    """
    numbers = [requested] if requested else sorted({cores >> shift for shift in range(cores.bit_length())})
    policies = (True, False) if waiting else (None,)
    single = [ThreadSetting(1)] if 1 in numbers else []
    several = (ThreadSetting(number, policy) for policy in policies for number in numbers if number > 1)
    return (*single, *several)


@contextmanager
def tuned_threads(configured: int, what: str, device: str) -> Iterator["Threads"]:
    """Choose the threads for long work on a device, and set them while the block runs."""
    with Threads(configured, what) as threads:
        if device == "cpu" and (line := threads.choose()):
            say(f"  {line}", "dim")
        yield threads


class Threads:
    """Sets the threads of this process while a block runs, and restores the former ones.

    `configured` is `runtime.num_threads`, 0 to choose; `what` names the work in the log.
    """

    def __init__(self, configured: int, what: str) -> None:
        self._label, self._requested = what, requested_threads(configured)
        self._sleeping_team: SleepingTeam | None = None
        self._before, self._next_measurement = (0, 0), 0.0
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

    def __exit__(self, *_: object) -> None:
        self._end_sleeping_team()
        torch.set_num_threads(self._before[0])
        cv2.setNumThreads(self._before[1])

    def choose(self, number: int = 0) -> str | None:
        """Use the fastest setting, measured again after a while; return a line that describes a change.

        With a `number` of threads, of the user or given here, only how they wait is chosen; 0: both.
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
        line = f"{self._label}: {self.setting} ({_describe_rates(rates)})"
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
