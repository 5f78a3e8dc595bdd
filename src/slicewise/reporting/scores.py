"""The metrics of an evaluation as lines of tables."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from slicewise.domain.tables import describe_counts, resampling_unit
from slicewise.evaluation.summary import describe_threshold, headline_scores, labelled_scores
from slicewise.metrics.table import score_key, score_label


@dataclass(frozen=True)
class Score:
    """One line of a table, formatted. A missing value is a dash."""

    name: str
    value: str
    interval: str
    num_patients: str
    note: str = ""
    is_baseline: bool = False


@dataclass(frozen=True)
class SourceScores:
    """The scores of one source."""

    name: str
    cases: str
    """Number of patients and slices in words."""
    num_tumour_slices: int
    unit: str
    """What the intervals resample: patients or families."""
    headlines: list[Score]
    details: list[Score]
    notes: list[str]
    """Why there are no intervals."""
    has_masks: bool


def source_scores(metrics: Mapping[str, Any]) -> list[SourceScores]:
    """Return the scores of each source of `metrics.json`."""
    sources = []
    for name, entry in metrics["sources"].items():
        # A cross-validation has no decisions: each fold has its own.
        decision = metrics.get("decisions", {}).get(name)
        details = [
            *_segmentation_scores(entry["segmentation"]),
            *_section_scores(entry["classification"]),
            *_patient_level_scores(entry["patient_classification"]),
        ]
        sources.append(
            SourceScores(
                name=name,
                cases=describe_counts(entry["num_patients"], entry["num_slices"]),
                num_tumour_slices=entry["num_tumour_slices"],
                unit=resampling_unit(entry),
                headlines=_headline_scores(entry, decision),
                details=details,
                notes=_interval_notes(entry),
                has_masks=entry["segmentation"] is not None,
            )
        )
    return sources


def _headline_scores(entry: Mapping[str, Any], decision: Mapping[str, Any] | None) -> list[Score]:
    """Return the main scores with their thresholds, and beside the accuracy that of the majority class."""
    lines = []
    for metric, estimate in headline_scores(entry):
        threshold = describe_threshold(metric, decision)
        label = score_label(score_key(metric))
        lines.append(_estimate_score(f"{label} ({threshold})" if threshold else label, estimate))
        if metric.name == "accuracy":
            classes = entry["classification"]
            base, majority = classes["majority_accuracy"], classes["majority_class"].replace("_", " ")
            note = f"accuracy of always predicting “{majority}”"
            lines.append(Score("majority class", format_number(base), "–", "–", note, is_baseline=True))
    return lines


def _estimate_score(name: str, entry: Mapping[str, Any]) -> Score:
    return Score(
        name,
        format_number(entry["value"]),
        format_interval(*(entry["interval"] or (None, None))),
        str(entry["num_patients"]),
        "" if _lacks_interval(entry) else str(entry.get("note") or ""),
    )


def _section_scores(section: Mapping[str, Any] | None) -> list[Score]:
    """Return a line for every metric of a section of `metrics.json`."""
    return [_estimate_score(label, estimate) for label, estimate in labelled_scores(section)]


def _segmentation_scores(section: Mapping[str, Any] | None) -> list[Score]:
    """Return the lines of a segmentation, and how many tumours have an empty prediction.

    HD95 excludes those, and so favours a model that misses many.
    """
    if section is None:
        return []
    return _section_scores(section) + [
        Score(f"missed entirely, {key.removeprefix('num_').replace('_', ' ')}", str(value), "–", "–")
        for key, value in section["empty_prediction"].items()
    ]


def _patient_level_scores(section: Mapping[str, Any] | None) -> list[Score]:
    """Return the lines of the patients, where a family of pictures is one patient.

    If all patients have a tumour, or none has, it is one line with the number classified as tumour.
    """
    if section is None:
        return []
    if section["roc_auc"]["value"] is None:
        number = section["num_patients"]
        called, note = f"{section['num_called']} of {number}", section["roc_auc"]["note"]
        return [Score("patients classified as tumour", called, "–", str(number), note)]
    return [replace(line, name=f"{line.name}, patient level") for line in _section_scores(section)]


def _interval_notes(entry: Mapping[str, Any]) -> list[str]:
    """Return why a source has no intervals, each reason once."""
    sections = (entry[name] or {} for name in ("segmentation", "classification", "patient_classification"))
    estimates = (value for section in sections for value in section.values() if isinstance(value, Mapping))
    return sorted({str(estimate["note"]).capitalize() for estimate in estimates if _lacks_interval(estimate)})


def _lacks_interval(estimate: Mapping[str, Any]) -> bool:
    return str(estimate.get("note") or "").startswith("no interval")


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` decimals, or a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def format_interval(low: float | None, high: float | None) -> str:
    """Return an interval, or a dash if it is missing."""
    return "–" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def format_best_epoch(training: Mapping[str, Any]) -> str:
    """Return the best epoch of a stage; `initial` if no epoch was better."""
    return str(training["best_epoch"] or "initial")
