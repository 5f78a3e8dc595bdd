"""The metrics of each source of an evaluation as tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from slicewise.domain.report import Table
from slicewise.domain.tables import describe_counts, resampling_unit
from slicewise.evaluation.summary import describe_threshold, headline_scores, labelled_scores
from slicewise.metrics.table import score_key, score_label

Line = tuple[str, str, str, str, str]
"""Name, value, interval, number of patients or families, note; a missing value is a dash"""


class SourceScores(NamedTuple):
    """The headline scores and all scores of one source, and why some have no interval."""

    headlines: Table
    details: Table
    notes: list[str]


def source_scores(metrics: Mapping[str, Any]) -> list[SourceScores]:
    """Return the scores of each source of `metrics.json`."""
    sources = []
    for name, entry in metrics["sources"].items():
        # A cross-validation has no decisions: each fold has its own.
        decision = metrics.get("decisions", {}).get(name)
        details = [*_segmentation_lines(entry), *_classification_lines(entry)]
        counts = f"{name}: {describe_counts(entry['num_patients'], entry['num_slices'])}"
        head = ("score", "value", "interval", resampling_unit(entry), "")
        notes = _interval_notes(entry)
        if (whole := entry["patient_classification"]) and whole["roc_auc"]["value"] is None:
            notes.append(f"Patients: {whole['roc_auc']['note']}.")
        if entry["segmentation"] is None and "segmentation" in metrics["tasks"]:
            notes.append("Segmentation is not scored: this source has no masks.")
        sources.append(
            SourceScores(
                Table(head, _headline_lines(entry, decision), counts),
                Table(head, details, f"{counts}, {entry['num_tumour_slices']:,} with tumour"),
                notes,
            )
        )
    return sources


def headlines(metrics: Mapping[str, Any], gains: Mapping[str, str] | None = None) -> list[str]:
    """Return the main scores of each source as lines for a terminal.

    A run prints them from the record of the step, without the libraries that the metrics need.

    Args:
        metrics: of `metrics.json`.
        gains: what the last stage gained, by source.
    """
    lines = []
    for source, scores in metrics["sources"].items():
        thresholds = metrics.get("decisions", {}).get(source)
        lines.append(f"{source}: {describe_counts(scores['num_patients'], scores['num_slices'])}")
        for metric, estimate in headline_scores(scores):
            threshold = describe_threshold(metric, thresholds)
            line = f"  {score_label(score_key(metric)):<22}{_with_interval(estimate)}"
            lines.append(f"{line} ({threshold})" if threshold else line)
        if classes := scores["classification"]:
            majority, accuracy = classes["majority_class"], classes["majority_accuracy"]
            lines.append(f"  always predicting {majority} has an accuracy of {accuracy:.3f}")
        if gains and source in gains:
            lines.append(f"  {gains[source]}")
    return lines


def _with_interval(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "n/a"
    low_high = estimate["interval"]
    interval = f" ({low_high[0]:.3f} to {low_high[1]:.3f})" if low_high is not None else ""
    return f"{estimate['value']:.3f}{interval}"


def _headline_lines(entry: Mapping[str, Any], decision: Mapping[str, Any] | None) -> list[Line]:
    """Return the main scores with their thresholds, and beside the accuracy that of the majority class."""
    lines = []
    for metric, estimate in headline_scores(entry):
        threshold = describe_threshold(metric, decision)
        label = score_label(score_key(metric))
        lines.append(_line(f"{label} ({threshold})" if threshold else label, estimate))
        if metric.name == "accuracy":
            classes = entry["classification"]
            note = f"accuracy of always predicting “{classes['majority_class'].replace('_', ' ')}”"
            lines.append(("majority class", number(classes["majority_accuracy"]), "–", "–", note))
    return lines


def _segmentation_lines(entry: Mapping[str, Any]) -> list[Line]:
    """Return every score of masks, how many references are empty, and how many tumours have no mask.

    HD95 excludes both.
    """
    section = entry["segmentation"] or {}
    lines = [_line(label, estimate) for label, estimate in labelled_scores(section)]
    for part, name in (("empty_reference", "empty reference"), ("empty_prediction", "missed entirely")):
        for key, value in section.get(part, {}).items():
            words = key.removeprefix("num_").replace("_", " ")
            lines.append((f"{name}, {words}", str(value), "–", "–", ""))
    return lines


def _classification_lines(entry: Mapping[str, Any]) -> list[Line]:
    """Return the scores of slices, then those of patients, where a family of pictures is one patient.

    If all patients have a tumour, or none has, there is one line with the number classified as tumour.
    """
    lines = [_line(label, estimate) for label, estimate in labelled_scores(entry["classification"])]
    whole = entry["patient_classification"]
    if whole and whole["roc_auc"]["value"] is None:
        called = f"{whole['num_called']} of {whole['num_patients']}"
        return [*lines, ("patients classified as tumour", called, "–", str(whole["num_patients"]), "")]
    return [
        *lines,
        *(_line(f"{label}, patient level", estimate) for label, estimate in labelled_scores(whole)),
    ]


def _line(name: str, entry: Mapping[str, Any]) -> Line:
    low, high = entry["interval"] or (None, None)
    interval = "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    note = "" if _lacks_interval(entry) else str(entry.get("note") or "")
    return name, number(entry["value"]), interval, str(entry["num_patients"]), note


def _interval_notes(entry: Mapping[str, Any]) -> list[str]:
    """Return why a source has no intervals, each reason once."""
    sections = (entry[name] or {} for name in ("segmentation", "classification", "patient_classification"))
    estimates = (value for section in sections for value in section.values() if isinstance(value, Mapping))
    return sorted({str(estimate["note"]).capitalize() for estimate in estimates if _lacks_interval(estimate)})


def _lacks_interval(estimate: Mapping[str, Any]) -> bool:
    return str(estimate.get("note") or "").startswith("no interval")


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` decimals, or a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"
