"""The run of a report beside its metrics: steps, settings, split, folders."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StepInfo:
    """One finished step, from its receipt.

    `commit` and `command` are those of the run that wrote the output; None in receipts without them.
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
    """The whole run.

    `config` holds the sections that affect results and `config_fingerprint` their SHA-256; `reproduce` is a
    command with the same settings; `counts` is {source: {subset of the split: number of groups}}.
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
    def final_stage(self) -> str:
        """The stage whose model was evaluated."""
        return str([*self.config["stages"]][-1])

    @property
    def gains(self) -> Mapping[str, Any]:
        """The gains of the final stage over the first that trained the same task, by source."""
        gains: Mapping[str, Any] = self.evaluation_step.metrics.get(f"gains_of_{self.final_stage}", {})
        return gains

    @property
    def seeds(self) -> dict[str, Any]:
        return {"seed": self.config["seed"], "split.seed": self.config["split"]["seed"]}

    @property
    def split_origin(self) -> str:
        """Return how the split into train, val and test was made."""
        split = self.config["split"]
        if split["file"] is not None:
            return f"given by the user in split.file={split['file']}"
        if split["folders"]:
            return "given by the user as folders of the data"
        return f"drawn by split.seed={split['seed']}"

    def step(self, name: str) -> StepInfo:
        """Return the step of this name."""
        return next(step for step in self.steps if step.name == name)

    @property
    def evaluation_step(self) -> StepInfo:
        return self.step("evaluate")


@dataclass(frozen=True)
class ResultFolders:
    """Folders of the outputs that the report shows; `stages` holds those of the training, in order."""

    evaluation: Path
    stage_comparison: Path
    failures: Path
    gradcam: Path
    ablations: Path
    stages: Mapping[str, Path]
