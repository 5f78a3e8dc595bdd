"""What the report says of a run beside its figures: who made what, when, from which settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StepInfo:
    """One finished step, as its receipt tells it.

    `commit` and `command` are those of the run that made the output; None in receipts that do not hold them.
    """

    name: str
    fingerprint: str
    made_at: str
    seconds: float
    memory_mib: int | None
    commit: str | None
    command: str | None
    versions: Mapping[str, str]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class RunInfo:
    """The run as a whole.

    `config` holds the sections that decide results, `config_fingerprint` is the SHA-256 of them, `reproduce`
    a command that gives the same settings; `counts` is {source: {side of the split: number of groups}}.
    """

    training_mode: str
    data_name: str
    synthetic: bool
    config: Mapping[str, Any]
    config_fingerprint: str
    reproduce: str
    counts: Mapping[str, Mapping[str, int]]
    steps: tuple[StepInfo, ...]

    @property
    def seeds(self) -> dict[str, Any]:
        return {"seed": self.config["seed"], "split.seed": self.config["split"]["seed"]}

    @property
    def split_origin(self) -> str:
        """Say who divided the patients into train, val and test."""
        split = self.config["split"]
        if split["file"] is not None:
            return f"given by the user in split.file={split['file']}"
        if split["folders"]:
            return "given by the user as folders of the data"
        return f"drawn by split.seed={split['seed']}"

    def step(self, name: str) -> StepInfo:
        """Return one step; ValueError where the run has none of that name."""
        for step in self.steps:
            if step.name == name:
                return step
        raise ValueError(f"the report knows no step called {name}")

    @property
    def judge(self) -> StepInfo:
        """The step whose figures the report shows."""
        return self.step("evaluate")


@dataclass(frozen=True)
class ResultFolders:
    """Where the outputs lie that the report shows; `stages` holds those of the training, in order."""

    evaluation: Path
    phases: Path
    failures: Path
    gradcam: Path
    ablations: Path
    stages: Mapping[str, Path]
