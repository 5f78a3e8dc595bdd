"""`pipeline_results.json`: the record of a run, complete at every moment."""

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from slicewise.core.files import write_json

RECORD_NAME = "pipeline_results.json"
StepStatus = Literal["pending", "running", "completed", "reused", "skipped", "failed", "interrupted"]
RunStatus = Literal["running", "completed", "failed", "interrupted"]


@dataclass
class StepRecord:
    """What happened to one step. `artifacts` lists path, size in bytes and SHA-256 of its files.

    `duration_seconds` is what this run spent on the step; `made_in_seconds` what the run that made the output
    did, also where the output is reused. `estimated_mib` holds `disk` and `memory` as they were estimated
    before a run.
    """

    status: StepStatus = "pending"
    reason: str = ""
    duration_seconds: float = 0.0
    peak_memory_mib: int | None = None
    estimated_mib: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    artifacts: Sequence[Mapping[str, Any]] = ()
    made_at: str | None = None
    made_in_seconds: float | None = None
    error: Mapping[str, Any] | None = None


@dataclass
class RunRecord:
    """The whole run; `save` rewrites the file atomically.

    `header` holds what was known at the start: mode, training_mode, data_set, command, versions and commit.
    `continuation` returns the command that does what is left when these steps were finished. It is on record
    from the start: a run that is killed can add nothing.
    """

    path: Path
    header: Mapping[str, Any]
    steps: dict[str, StepRecord]
    status: RunStatus = "running"
    error: Mapping[str, Any] | None = None
    continuation: Callable[[Set[str]], str | None] = lambda _: None
    is_stale: bool = False
    """The file could not be written and lags behind."""
    started_at: str = field(default_factory=lambda: now())
    _started: float = field(default_factory=time.monotonic)

    @property
    def continue_with(self) -> str | None:
        """The command that does what is left; None where nothing is."""
        if self.status == "completed":
            return None
        return self.continuation({name for name, step in self.steps.items() if step.status == "completed"})

    def save(self) -> None:
        finished = self.status != "running"
        tree = {
            "success": self.status == "completed",
            "status": self.status,
            "started_at": self.started_at,
            "ended_at": now() if finished else None,
            "total_duration_seconds": round(time.monotonic() - self._started, 3),
            **self.header,
            "steps": {name: vars(step) for name, step in self.steps.items()},
            "error": self.error,
            "continue_with": self.continue_with,
        }
        write_json(self.path, tree)


def now() -> str:
    """Return the time in UTC (ISO 8601, seconds)."""
    return datetime.now(UTC).isoformat(timespec="seconds")
