"""The running step, the open progress bar and the epochs of this process.

`engine.progress` writes the first two to disk, and the runner tells its observers of the epochs.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class Job:
    """A job with a progress bar. Times are in seconds since 1970."""

    desc: str
    total: float | None
    unit: str
    initial: float = 0.0
    done: float = 0.0
    note: str = ""
    started: float = field(default_factory=time.time)


@dataclass(eq=False)
class RunningStep:
    """The running step, and why it runs."""

    name: str
    reason: str
    started: float = field(default_factory=time.time)


_jobs: list[Job] = []
_steps: list[RunningStep] = []
_listeners: list[Callable[[Mapping[str, float]], None]] = []


@contextmanager
def job(desc: str, total: float | None, unit: str, initial: float = 0.0) -> Iterator[Job]:
    """List a job while the block runs."""
    entry = Job(desc, total, unit, initial, initial)
    _jobs.append(entry)
    try:
        yield entry
    finally:
        _jobs.remove(entry)


@contextmanager
def step(name: str, reason: str) -> Iterator[None]:
    """List a step while the block runs."""
    entry = RunningStep(name, reason)
    _steps.append(entry)
    try:
        yield
    finally:
        _steps.remove(entry)


def current() -> tuple[RunningStep | None, Job | None]:
    """Return the step and the job that started last and have not ended."""
    return next(reversed(_steps), None), next(reversed(_jobs), None)


@contextmanager
def epochs(listener: Callable[[Mapping[str, float]], None]) -> Iterator[None]:
    """Call `listener` with the metrics of each epoch that ends while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def finish_epoch(metrics: Mapping[str, float]) -> None:
    """Tell the listeners of an epoch, with its number in `metrics["epoch"]`."""
    for listener in _listeners:
        listener(metrics)
