"""The figures of an evaluation as lines of a table, and what a reader has to be warned of."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from slicewise.core.labels import CLASSIFICATION, SEGMENTATION
from slicewise.evaluation.rows import class_condition, mask_condition, plural
from slicewise.reporting.facts import RunFacts

FEW_PATIENTS: Final = 20
NOT_TRAINED: Final = "not trained"
_WORDS: Final = {
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


def number(value: float | None, digits: int = 3) -> str:
    """Write a number, or a dash for one that is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def p_text(value: float | None) -> str:
    """Write a p value: three decimals, and no zero for what is merely small."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def kept_epoch(training: Mapping[str, Any]) -> str:
    """Say which epoch of a stage was kept; `start` is the model that it began with."""
    return str(training["best_epoch"] or "start")


def interval_text(low: float | None, high: float | None) -> str:
    """Write an interval, or a dash where there is none."""
    return "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def score(name: str, found: Mapping[str, Any]) -> Score:
    """Return the line of one estimate of `metrics.json`."""
    low, high = found["interval"] or (None, None)
    return Score(
        name,
        number(found["value"]),
        interval_text(low, high),
        str(found["num_patients"]),
        "" if _is_shared(found) else str(found.get("note") or ""),
    )


def shared_notes(found: Mapping[str, Any]) -> list[str]:
    """Return why a source has no intervals, once for all of its lines."""
    sections = (found[name] or {} for name in ("segmentation", "classification", "patient_classification"))
    estimates = (value for section in sections for value in section.values() if isinstance(value, Mapping))
    return sorted({str(estimate["note"]).capitalize() for estimate in estimates if _is_shared(estimate)})


def _is_shared(estimate: Mapping[str, Any]) -> bool:
    return str(estimate.get("note") or "").startswith("no interval")


def scores(section: Mapping[str, Any] | None) -> list[Score]:
    """Return a line for every estimate of a section of `metrics.json`, in its order."""
    found = (section or {}).items()
    return [
        score(label(key), value) for key, value in found if isinstance(value, Mapping) and "value" in value
    ]


def segmentation_lines(section: Mapping[str, Any] | None) -> list[Score]:
    """Return the lines of a segmentation: its estimates, and how many tumours have no mask at all.

    HD95 leaves those out, so it is kind to a network that misses many.
    """
    if section is None:
        return []
    missed = section["empty_prediction"]
    numbers = ((str(missed[key]), key.removeprefix("num_").replace("_", " ")) for key in missed)
    return scores(section) + [Score(f"missed whole, {what}", value, "–", "–") for value, what in numbers]


def whole_patients(section: Mapping[str, Any] | None) -> list[Score]:
    """Return the lines of the patients as wholes, where a family of pictures is one patient.

    Where all patients have a tumour, or none has, the one line says how many were called.
    """
    if section is None:
        return []
    if section["roc_auc"]["value"] is None:
        number_of = section["num_patients"]
        called, note = f"{section['num_called']} of {number_of}", section["roc_auc"]["note"]
        return [Score("whole patients called tumour", called, "–", str(number_of), note)]
    return [replace(line, name=f"{line.name}, whole patients") for line in scores(section)]


def label(key: str) -> str:
    """Write `hd95_mm_per_patient` as people would: `HD95 mm per patient`."""
    words = [_WORDS.get(word, word) for word in key.split("_")]
    return " ".join(words)


def with_conditions(lines: Iterable[Score], decision: Mapping[str, Any] | None) -> list[Score]:
    """Name the thresholds behind the scores that the stage comparison gives with others."""
    if decision is None:
        return list(lines)
    return [
        replace(line, name=f"{line.name} ({condition})") if condition else line
        for line in lines
        for condition in [_condition(line.name, decision)]
    ]


def _condition(name: str, decision: Mapping[str, Any]) -> str:
    if name in ("accuracy", "balanced accuracy", "sensitivity", "specificity", "F1", "MCC"):
        return class_condition(decision)
    return mask_condition(decision) if name == "Dice per patient" else ""


def decision_of(metrics: Mapping[str, Any], source: str) -> Mapping[str, Any] | None:
    """Return how the answers of a source were decided; None where several networks decided, each its way."""
    found: Mapping[str, Any] | None = metrics.get("decisions", {}).get(source)
    return found


def headlines(found: Mapping[str, Any], not_trained: Collection[str] = ()) -> list[Score]:
    """Return the lines that stand first, for one source."""
    masks, classes = found["segmentation"], found["classification"]
    lines = [score("Dice per patient", masks["dice_per_patient"])] if masks else []
    lines += untrained(not_trained)
    return lines + _class_headlines(classes) if classes else lines


def untrained(tasks: Collection[str]) -> list[Score]:
    """Return a line for each task that was not trained, instead of its scores."""
    return [Score(task, NOT_TRAINED, "–", "–") for task in (SEGMENTATION, CLASSIFICATION) if task in tasks]


def _class_headlines(classes: Mapping[str, Any]) -> list[Score]:
    lines = [score("ROC-AUC", classes["roc_auc"])]
    lines.append(score("accuracy", classes["accuracy"]))
    majority = classes["majority_class"].replace("_", " ")
    base = number(classes["majority_accuracy"])
    always = f"accuracy of always answering “{majority}”"
    lines.append(Score("majority baseline", base, "–", "–", always, is_baseline=True))
    lines.append(score("balanced accuracy", classes["balanced_accuracy"]))
    return lines


def warnings(run: RunFacts, metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
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
    yield from _of_training(run)
    for source, found in metrics["sources"].items():
        yield from _of_source(source, found)


def _of_training(run: RunFacts) -> Iterator[tuple[str, str]]:
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


def raw_sources(metrics: Mapping[str, Any]) -> list[str]:
    """Return the sources whose probabilities are raw; none where the classification was not trained."""
    if CLASSIFICATION in metrics.get("not_trained", ()):
        return []
    return [
        source
        for source, found in metrics["decisions"].items()
        if (found["temperature"], found["shift"]) == (1, 0)
    ]


def choice_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Return what the choices on the validation patients have to say, each with its source."""
    decisions = metrics["decisions"]
    return [f"{source}: {note}" for source, found in decisions.items() for note in found["notes"]]


def _of_source(source: str, found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    classes = found["classification"]
    count, who = _how_many(found, classes)
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


def _how_many(found: Mapping[str, Any], classes: Mapping[str, Any] | None) -> tuple[int, str]:
    """Return how many were tested, as the intervals count them: pictures that resemble each other are one."""
    count = found["num_patients"]
    if count != found["num_slices"]:
        return count, plural(count, "test patient")
    families = classes["accuracy"]["num_patients"] if classes else count
    alike = families == count
    return families, plural(count, "test picture") if alike else f"{families} families of test pictures"
