"""Measure how fast a small training step is under several settings of threads, in under a second."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import psutil
import torch
from torch import Tensor, nn

Workload = Callable[[], None]

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


def idle_seconds() -> float:
    """Return the idle time of all cores of this machine together."""
    return float(psutil.cpu_times().idle)


def measure_rates(
    options: Sequence[ThreadSetting],
    use: Callable[[ThreadSetting], None],
    work: Workload,
    idle: Callable[[], float] = idle_seconds,
) -> dict[ThreadSetting, float]:
    """Return the steps per second of each setting; slow settings are not measured to the end.

    Args:
        options: at least two settings to compare, the spinning ones last.
        use: applies a setting.
        work: runs one step.
        idle: returns the idle time of the cores. Where it stands still while the others are measured,
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
