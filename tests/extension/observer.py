"""An observer of another package: a table of what happened to each step, and of each epoch.

Its pyproject.toml offers it:

    [project.entry-points."slicewise.observers"]
    diary = "observer:make_diary"
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from slicewise.config.schema import Config
from slicewise.engine.observers import Observer
from slicewise.engine.record import StepStatus
from slicewise.engine.workspace import StoredOutput, Workspace


class Diary(Observer):
    """Adds a line to diary.csv for each event."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _add(self, step: str, event: str, detail: str = "") -> None:
        with self._path.open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerow([step, event, detail])

    def epoch(self, step: str, metrics: Mapping[str, float]) -> None:
        self._add(step, "epoch", f"{metrics['epoch']:.0f}")

    def finished(self, step: str, status: StepStatus, reason: str, output: StoredOutput | None) -> None:
        self._add(step, status, reason)

    def failed(self, step: str, error: BaseException) -> None:
        self._add(step, "failed", str(error))


def make_diary(_config: Config, workspace: Workspace) -> Observer | None:
    """Return the observer; None would switch it off."""
    return Diary(workspace.root / "diary.csv")
