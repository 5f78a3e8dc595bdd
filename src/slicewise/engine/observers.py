"""Observers of a run: called when a step starts, ends or fails, and of each epoch of a training.

The record of the run is none of them: a run whose record cannot be written stops.
"""

from collections.abc import Callable, Mapping

from slicewise.core.console import say
from slicewise.core.redact import redact
from slicewise.engine.record import StepStatus
from slicewise.engine.workspace import StoredOutput


class StopRun(BaseException):
    """Raised by an observer to end the run here: its result is not worth the rest of the time."""


class Observer:
    """Does nothing; an observer overrides what it wants to know."""

    def started(self, step: str, reason: str) -> None:
        """A step begins to run."""

    def epoch(self, step: str, metrics: Mapping[str, float]) -> None:
        """A training step has finished an epoch, whose number is `metrics["epoch"]`."""

    def finished(self, step: str, status: StepStatus, reason: str, output: StoredOutput | None, /) -> None:
        """A step was completed, reused or skipped; `output` is in its home, where it has one."""

    def failed(self, step: str, error: BaseException) -> None:
        """A step failed or was interrupted."""


class Observers:
    """Observers by name. One that fails is left out from then on, and breaks nothing."""

    def __init__(self, observers: Mapping[str, Observer]) -> None:
        self._observers = dict(observers)

    def tell(self, step: str, event: Callable[[Observer], None]) -> list[str]:
        """Call `event` with each observer; return a warning for each one that failed."""
        warnings = []
        for name, observer in [*self._observers.items()]:
            try:
                event(observer)
            except Exception as error:  # whatever a foreign library or server raises
                del self._observers[name]
                reason = redact(f"{type(error).__name__}: {error}".splitlines()[0])
                warnings.append(f"{name} failed at {step} and is off until the next command: {reason}")
        return warnings


class Console(Observer):
    """Prints a line where a step starts, and its notes, time and memory where it ends."""

    def __init__(self) -> None:
        self._has_run = False

    def started(self, step: str, reason: str) -> None:
        say(f"{step:<18} {'run':<8} {reason}", "header")

    def finished(self, step: str, status: StepStatus, reason: str, output: StoredOutput | None) -> None:
        if status != "completed":
            if self._has_run:  # until then, the plan printed before the run says the same
                say(f"{step:<18} {status:<8} {reason}", "dim")
            return
        self._has_run = True
        if output:
            report = output.receipt.report
            for note in report.notes:
                say(f"  {note}", "warn")
            say(
                f"  done in {report.duration_seconds:.1f} s, peak memory {report.peak_memory_mib} MiB", "good"
            )
