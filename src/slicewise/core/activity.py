"""What this process is doing: the running step, the open progress bar and the epochs.

While a command runs, a thread writes the first two to `progress.json` again and again, for other terminals.
It is no record: it is not forced to the disk, and it is removed when the command ends.

Its classes are plain ones: `dataclasses` would take a tenth of the time of `slicewise --help`.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

PROGRESS_NAME = "progress.json"
_INTERVAL_SECONDS = 1.0


class Job:
    """A progress bar, listed here and drawn by tqdm on a terminal. Times are in seconds since 1970."""

    def __init__(self, desc: str, total: float | None, unit: str, initial: float = 0.0) -> None:
        self.desc, self.total, self.unit, self.initial = desc, total, unit, initial
        self.done, self.note, self.started = initial, "", time.time()
        self.drawn: Any = None

    def update(self, n: float = 1) -> None:
        self.done += n
        if self.drawn is not None:
            self.drawn.update(n)

    def set_postfix_str(self, s: str) -> None:
        self.note = s
        if self.drawn is not None:
            self.drawn.set_postfix_str(s)


class RunningStep:
    """The running step, and why it runs; `started` in seconds since 1970."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason, self.started = name, reason, time.time()


_runs: list[float] = []  # when each began, in seconds since 1970
_jobs: list[Job] = []
_steps: list[RunningStep] = []
_listeners: list[Callable[[Mapping[str, float]], None]] = []


@contextmanager
def _listed(entries: list[Any], entry: Any) -> Iterator[None]:
    entries.append(entry)
    try:
        yield
    finally:
        entries.remove(entry)


def job(entry: Job) -> AbstractContextManager[None]:
    """List a job while the block runs."""
    return _listed(_jobs, entry)


def step(name: str, reason: str) -> AbstractContextManager[None]:
    """List a step while the block runs."""
    return _listed(_steps, RunningStep(name, reason))


def epochs(listener: Callable[[Mapping[str, float]], None]) -> AbstractContextManager[None]:
    """Call `listener` with the metrics of each epoch that ends while the block runs."""
    return _listed(_listeners, listener)


def finish_epoch(metrics: Mapping[str, float]) -> None:
    """Tell the listeners of an epoch, with its number in `metrics["epoch"]`."""
    for listener in _listeners:
        listener(metrics)


def current() -> tuple[RunningStep | None, Job | None]:
    """Return the step and the job that started last and have not ended."""
    return next(reversed(_steps), None), next(reversed(_jobs), None)


def elapsed_seconds() -> float:
    """Return the seconds since the command began that works in a workspace; 0 outside of one."""
    return time.time() - _runs[-1] if _runs else 0.0


@contextmanager
def publish_progress(
    folder: Path, command: str, interval_seconds: float = _INTERVAL_SECONDS
) -> Iterator[None]:
    """Keep the progress file in `folder` while the block runs."""
    path = folder / PROGRESS_NAME
    started, stop = time.time(), threading.Event()

    def publish() -> None:
        temporary = path.with_name(f".{path.name}.new")
        while not stop.wait(interval_seconds):
            step, job = (part and {k: v for k, v in vars(part).items() if k != "drawn"} for part in current())
            state = {"command": command, "started": started, "step": step, "job": job}
            with suppress(OSError):  # the work itself reports a full disk
                temporary.write_text(json.dumps(state), encoding="utf-8")
                temporary.replace(path)

    thread = threading.Thread(target=publish, name="progress", daemon=True)
    thread.start()
    try:
        with _listed(_runs, started):
            yield
    finally:
        stop.set()
        thread.join()
        path.unlink(missing_ok=True)


def read_progress(folder: Path) -> dict[str, Any] | None:
    """Return what a run is doing, or None where no valid file was written."""
    try:
        progress: dict[str, Any] = json.loads((folder / PROGRESS_NAME).read_bytes())
        return progress if {"command", "started", "step", "job"} <= set(progress) else None
    except (OSError, ValueError, TypeError):
        return None
