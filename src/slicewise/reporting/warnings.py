"""What a reader must know before the metrics of a report."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.tables import plural
from slicewise.reporting.run_info import RunInfo

_FEW_PATIENTS: Final = 20


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


def selection_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Return the notes of the threshold selection, each with its source."""
    decisions = metrics["decisions"]
    return [f"{source}: {note}" for source, entry in decisions.items() for note in entry["notes"]]
