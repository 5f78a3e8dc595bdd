"""The figures of an evaluation as lines of a table, and what a reader has to be warned of."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.tables import describe_class_threshold, describe_mask_threshold, plural
from slicewise.reporting.run_info import RunInfo

FEW_PATIENTS: Final = 20
NOT_TRAINED: Final = "not trained"
_ABBREVIATIONS: Final = {
    name.lower(): name for name in ("Dice", "IoU", "NSD", "HD95", "ROC", "PR", "AUC", "F1", "MCC")
}


@dataclass(frozen=True)
class Score:
    """One line: what, how much, within which interval, over how many patients. Missing numbers are dashes."""

    name: str
    value: str
    interval: str
    num_patients: str
    note: str = ""
    is_baseline: bool = False


def format_number(value: float | None, digits: int = 3) -> str:
    """Write a number, or a dash for one that is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def format_p_value(value: float | None) -> str:
    """Write a p value: three decimals, and no zero for what is merely small."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_best_epoch(training: Mapping[str, Any]) -> str:
    """Say which epoch of a stage was kept; `start` is the model that it began with."""
    return str(training["best_epoch"] or "start")


def format_interval(low: float | None, high: float | None) -> str:
    """Write an interval, or a dash where there is none."""
    return "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def estimate_score(name: str, entry: Mapping[str, Any]) -> Score:
    """Return the line of one estimate of `metrics.json`."""
    low, high = entry["interval"] or (None, None)
    return Score(
        name,
        format_number(entry["value"]),
        format_interval(low, high),
        str(entry["num_patients"]),
        "" if _is_missing_interval(entry) else str(entry.get("note") or ""),
    )


def shared_notes(entry: Mapping[str, Any]) -> list[str]:
    """Return why a source has no intervals, once for all of its lines."""
    sections = (entry[name] or {} for name in ("segmentation", "classification", "patient_classification"))
    estimates = (value for section in sections for value in section.values() if isinstance(value, Mapping))
    return sorted(
        {str(estimate["note"]).capitalize() for estimate in estimates if _is_missing_interval(estimate)}
    )


def _is_missing_interval(estimate: Mapping[str, Any]) -> bool:
    return str(estimate.get("note") or "").startswith("no interval")


def section_scores(section: Mapping[str, Any] | None) -> list[Score]:
    """Return a line for every estimate of a section of `metrics.json`, in its order."""
    entry = (section or {}).items()
    return [
        estimate_score(metric_label(key), value)
        for key, value in entry
        if isinstance(value, Mapping) and "value" in value
    ]


def segmentation_scores(section: Mapping[str, Any] | None) -> list[Score]:
    """Return the lines of a segmentation: its estimates, and how many tumours have no mask at all.

    HD95 leaves those out, so it is kind to a network that misses many.
    """
    if section is None:
        return []
    missed = section["empty_prediction"]
    numbers = ((str(missed[key]), key.removeprefix("num_").replace("_", " ")) for key in missed)
    return section_scores(section) + [
        Score(f"missed whole, {what}", value, "–", "–") for value, what in numbers
    ]


def patient_level_scores(section: Mapping[str, Any] | None) -> list[Score]:
    """Return the lines of the patients as wholes, where a family of pictures is one patient.

    Where all patients have a tumour, or none has, the one line says how many were called.
    """
    if section is None:
        return []
    if section["roc_auc"]["value"] is None:
        number_of = section["num_patients"]
        called, note = f"{section['num_called']} of {number_of}", section["roc_auc"]["note"]
        return [Score("whole patients called tumour", called, "–", str(number_of), note)]
    return [replace(line, name=f"{line.name}, whole patients") for line in section_scores(section)]


def metric_label(key: str) -> str:
    """Write `hd95_mm_per_patient` as people would: `HD95 mm per patient`."""
    words = [_ABBREVIATIONS.get(word, word) for word in key.split("_")]
    return " ".join(words)


def with_thresholds(lines: Iterable[Score], decision: Mapping[str, Any] | None) -> list[Score]:
    """Name the thresholds behind the scores that the stage comparison gives with others."""
    if decision is None:
        return list(lines)
    return [
        replace(line, name=f"{line.name} ({condition})") if condition else line
        for line in lines
        for condition in [_threshold_text(line.name, decision)]
    ]


def _threshold_text(name: str, decision: Mapping[str, Any]) -> str:
    if name in ("accuracy", "balanced accuracy", "sensitivity", "specificity", "F1", "MCC"):
        return describe_class_threshold(decision)
    return describe_mask_threshold(decision) if name == "Dice per patient" else ""


def get_decision(metrics: Mapping[str, Any], source: str) -> Mapping[str, Any] | None:
    """Return how the answers of a source were decided; None where several networks decided, each its way."""
    entry: Mapping[str, Any] | None = metrics.get("decisions", {}).get(source)
    return entry


def headline_scores(entry: Mapping[str, Any], not_trained: Collection[str] = ()) -> list[Score]:
    """Return the lines that stand first, for one source."""
    masks, classes = entry["segmentation"], entry["classification"]
    lines = [estimate_score("Dice per patient", masks["dice_per_patient"])] if masks else []
    lines += untrained_scores(not_trained)
    return lines + _classification_headlines(classes) if classes else lines


def untrained_scores(tasks: Collection[str]) -> list[Score]:
    """Return a line for each task that was not trained, instead of its scores."""
    return [Score(task, NOT_TRAINED, "–", "–") for task in (SEGMENTATION, CLASSIFICATION) if task in tasks]


def _classification_headlines(classes: Mapping[str, Any]) -> list[Score]:
    lines = [estimate_score("ROC-AUC", classes["roc_auc"])]
    lines.append(estimate_score("accuracy", classes["accuracy"]))
    majority = classes["majority_class"].replace("_", " ")
    base = format_number(classes["majority_accuracy"])
    always = f"accuracy of always answering “{majority}”"
    lines.append(Score("majority baseline", base, "–", "–", always, is_baseline=True))
    lines.append(estimate_score("balanced accuracy", classes["balanced_accuracy"]))
    return lines


def collect_warnings(run: RunInfo, metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (headline, explanation) of what a reader must know before the figures."""
    if run.synthetic:
        yield (
            "Synthetic data",
            "These patients and pictures are generated. The figures say that the pipeline works, and nothing "
            "about patients.",
        )
    for task in metrics.get("not_trained", ()):
        yield (
            f"{task.capitalize()} was not trained",
            "No stage has it in its objective: the network answers at random, and no figure of it is shown.",
        )
    yield from _training_warnings(run)
    for source, entry in metrics["sources"].items():
        yield from _source_warnings(source, entry)


def _training_warnings(run: RunInfo) -> Iterator[tuple[str, str]]:
    for step in run.steps:
        if step.name.startswith("train.") and step.metrics["best_epoch"] == 0:
            yield (
                f"{step.name} kept its initial weights",
                "Every epoch was significantly worse on the validation patients, in Dice or AUC: its figures "
                "are those of the stage before.",
            )
    if run.config["training"]["start_from"] is not None:
        yield (
            "Begun with the weights of another run",
            "Whom those have learned from is not known here (training.start_from). If a patient tested below "
            "was among them, its figures are too good.",
        )


def uncalibrated_sources(metrics: Mapping[str, Any]) -> list[str]:
    """Return the sources whose probabilities are raw; none where the classification was not trained."""
    if CLASSIFICATION in metrics.get("not_trained", ()):
        return []
    return [
        source
        for source, entry in metrics["decisions"].items()
        if (entry["temperature"], entry["shift"]) == (1, 0)
    ]


def selection_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Return what the choices on the validation patients have to say, each with its source."""
    decisions = metrics["decisions"]
    return [f"{source}: {note}" for source, entry in decisions.items() for note in entry["notes"]]


def _source_warnings(source: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    classes = entry["classification"]
    count, who = _count_test_units(entry, classes)
    if count < FEW_PATIENTS:
        yield (
            f"Only {who} in {source}",
            "Another draw of the split may give quite different figures; intervals over so few tell little.",
        )
    if classes is None:
        return
    accuracy, base = classes["accuracy"]["value"], classes["majority_accuracy"]
    if accuracy is not None and accuracy <= base:
        yield (
            f"No better than the majority answer in {source}",
            f"Accuracy {accuracy:.3f}; always giving the more frequent answer has {base:.3f}.",
        )


def _count_test_units(entry: Mapping[str, Any], classes: Mapping[str, Any] | None) -> tuple[int, str]:
    """Return how many were tested, as the intervals count them: pictures that resemble each other are one."""
    count = entry["num_patients"]
    if count != entry["num_slices"]:
        return count, plural(count, "test patient")
    families = classes["accuracy"]["num_patients"] if classes else count
    alike = families == count
    return families, plural(count, "test picture") if alike else f"{families} families of test pictures"
