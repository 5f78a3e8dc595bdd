"""`pipeline_results.json`: the record of a run, complete at every moment; package versions and commit."""

import logging
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from slicewise.core.console import say
from slicewise.core.files import write_json
from slicewise.core.packages import versions

log = logging.getLogger(__name__)

RECORD_NAME = "pipeline_results.json"
StepStatus = Literal["pending", "running", "completed", "reused", "skipped", "failed", "interrupted"]
RunStatus = Literal["running", "completed", "failed", "interrupted"]


@dataclass
class StepRecord:
    """What happened to one step.

    Attributes:
        duration_seconds: time that this run spent on the step.
        made_in_seconds: time that the run that made the output spent, also where it is reused.
        estimated_mib: `disk` and `memory` as estimated before a run.
        artifacts: path, size in bytes and SHA-256 of its files.
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
    """The whole run.

    Attributes:
        header: what is known at the start: mode, training_mode, data_set, command, versions and commit.
        continuation: returns the command that does the rest when these steps are finished. It is on record
            from the start: a run that is killed can add nothing.
        is_stale: the file could not be written and is out of date.
    """

    path: Path
    header: Mapping[str, Any]
    steps: dict[str, StepRecord]
    status: RunStatus = "running"
    error: Mapping[str, Any] | None = None
    continuation: Callable[[Set[str]], str | None] = lambda _: None
    is_stale: bool = False
    started_at: str = field(default_factory=lambda: utc_now())
    _started: float = field(default_factory=time.monotonic)

    @property
    def continue_with(self) -> str | None:
        """The command that does the rest; None where nothing is left."""
        if self.status == "completed":
            return None
        return self.continuation({name for name, step in self.steps.items() if step.status == "completed"})

    def save(self) -> None:
        """Rewrite the file atomically."""
        finished = self.status != "running"
        tree = {
            "success": self.status == "completed",
            "status": self.status,
            "started_at": self.started_at,
            "ended_at": utc_now() if finished else None,
            "total_duration_seconds": round(time.monotonic() - self._started, 3),
            **self.header,
            "steps": {name: vars(step) for name, step in self.steps.items()},
            "error": self.error,
            "continue_with": self.continue_with,
        }
        write_json(self.path, tree)

    def save_failed(self) -> None:
        """Save the record of a run that failed; where that fails too, warn and let the first error stand."""
        try:
            self.save()
        except OSError as error:
            if not self.is_stale:
                self.is_stale = True
                text = f"{self.path} could not be updated either: {error.strerror or error}"
                log.warning(text)
                say(text, "warn")


def utc_now() -> str:
    """Return the time in UTC (ISO 8601, seconds)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_PACKAGES = (
    *("slicewise", "torch", "lightning-fabric", "segmentation-models-pytorch", "monai", "grad-cam"),
    *("numpy", "nibabel", "hydra-core", "pydantic"),
)


def package_versions() -> dict[str, str]:
    """Return the installed versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version(), **versions(_PACKAGES)}


def git_commit(module: Path) -> str | None:
    """Return the commit of the source, with `-dirty` where files differ from it; None outside a checkout.

    `module` is a file of the source. A copy installed in another project's checkout (in its `.venv`) is not
    tracked there and has no commit.
    """
    try:
        _git(module.parent, "ls-files", "--error-unmatch", module.name)
        return _git(module.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    return result.stdout.strip()
