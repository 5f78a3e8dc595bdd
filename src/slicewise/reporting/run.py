"""The run of a report beside its metrics: steps, settings, split, folders; what a reader must know first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.tables import plural

_FEW_PATIENTS: Final = 20


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
        if split["external"]:
            return "all patients of an external test"
        if split["file"] is not None:
            return f"given by the user in split.file={split['file']}"
        given = self.step("split").metrics.get("given", {})
        if split["folders"] or any(entry["by"] == "folders" for entry in given.values()):
            return "given by the folders of the data"
        return f"drawn by split.seed={split['seed']}"

    def step(self, name: str) -> StepInfo:
        """Return the step of this name."""
        return next(step for step in self.steps if step.name == name)

    @property
    def evaluation_step(self) -> StepInfo:
        return self.step("evaluate")


@dataclass(frozen=True)
class ResultFolders:
    """Folders of the outputs that the report shows; `stages` holds those of the training, in order.

    An external test has no stages, and no comparison of them.
    """

    evaluation: Path
    stage_comparison: Path | None
    failures: Path
    gradcam: Path
    ablations: Path
    stages: Mapping[str, Path]


def collect_warnings(run: RunInfo, metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (headline, explanation) of each warning."""
    if run.synthetic:
        yield (
            "Synthetic data",
            "The patients and pictures are generated. The metrics show that the pipeline works, and nothing "
            "about real patients.",
        )
    for step in run.steps:
        if step.name.startswith("train.") and step.metrics["best_epoch"] == 0:
            yield (
                f"{step.name} kept its initial weights",
                "Every epoch was significantly worse on the validation patients, in Dice or AUC: its metrics "
                "are those of the previous stage.",
            )
    if run.config["training"]["start_from"] is not None:
        yield (
            "Initialised with the weights of another run",
            "Their training patients are not known here (training.start_from). If these include patients "
            "tested below, the metrics are too optimistic.",
        )
    for source, entry in metrics["sources"].items():
        yield from _source_warnings(source, entry)


def _source_warnings(source: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    classes = entry["classification"]
    # As the intervals count: near-identical pictures are one family. Only pictures have a slice per patient.
    count, tested = entry["num_patients"], plural(entry["num_patients"], "test patient")
    if count == entry["num_slices"]:
        tested = plural(count, "test picture")
        if classes and classes["accuracy"]["num_patients"] != count:
            count = classes["accuracy"]["num_patients"]
            tested = f"{count} families of test pictures"
    if count < _FEW_PATIENTS:
        yield (
            f"Only {tested} in {source}",
            "Another split may give quite different metrics; intervals over so few are unreliable.",
        )
    if classes is None:
        return
    accuracy, base = classes["accuracy"]["value"], classes["majority_accuracy"]
    if accuracy is not None and accuracy <= base:
        yield (
            f"No better than the majority class in {source}",
            f"Accuracy {accuracy:.3f}; always predicting the more frequent class has {base:.3f}.",
        )


def uncalibrated_sources(metrics: Mapping[str, Any]) -> list[str]:
    """Return the sources whose probabilities are raw; none without classification."""
    if CLASSIFICATION not in metrics["tasks"]:
        return []
    return [
        source
        for source, entry in metrics["decisions"].items()
        if (entry["temperature"], entry["shift"]) == (1, 0)
    ]


def selected_settings(metrics: Mapping[str, Any]) -> str:
    """Return what was selected on the validation patients."""
    return "Thresholds and calibration" if CLASSIFICATION in metrics["tasks"] else "Thresholds"


def selection_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Return the notes of the threshold selection, each with its source."""
    decisions = metrics["decisions"]
    return [f"{source}: {note}" for source, entry in decisions.items() for note in entry["notes"]]
