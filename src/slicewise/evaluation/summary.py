"""Scores of an evaluation with intervals, per source: two data sets are never averaged."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np

from slicewise.domain.classes import TUMOUR_OR_NOT, Classes
from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.tables import (
    Estimate,
    PatientRow,
    SliceRow,
    by_source,
    describe_class_threshold,
    describe_mask_threshold,
    plural,
)
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.statistics import BootstrapSettings, estimate, estimate_mean, estimate_over_rows
from slicewise.metrics import confusion
from slicewise.metrics.table import (
    Metric,
    Predictions,
    describe_undefined,
    headline_metrics,
    metrics_of,
    score_key,
    score_label,
)

Row = TypeVar("Row", SliceRow, PatientRow)


def summarise(result: EvaluationResult) -> dict[str, Any]:
    """Return all scores of a report as plain numbers, text and None, ready for JSON.

    A task that is not among `tasks` has no scores.
    """
    bootstrap = result.bootstrap
    slices, patients = by_source(result.slices), by_source(result.patients)
    classified = CLASSIFICATION in result.tasks
    scored: list[SliceRow | PatientRow] = [*result.slices, *result.patients]
    defined = {name for row in scored for name, value in row.scores.items() if value is not None}
    return {
        "intervals": {
            "method": "patient bootstrap, expanded percentile; a family of near-identical pictures is one",
            "confidence": bootstrap.confidence,
            "samples": bootstrap.samples,
            "seed": bootstrap.seed,
        },
        "empty_reference_policy": describe_undefined(defined),
        "nsd_tolerance_mm": result.settings.nsd_tolerance_mm,
        "tasks": [*result.tasks],
        **({"classes": asdict(result.classes)} if result.classes.several else {}),
        **({"slice_classes": asdict(result.slice_classes)} if result.slice_classes.several else {}),
        "sources": {
            source: {
                "num_patients": len(patients[source]),
                "num_slices": len(rows),
                "num_tumour_slices": sum(row.label > 0 for row in rows),
                "segmentation": _segmentation(result, source, rows, patients[source]),
                "classification": (
                    classification_scores(rows, bootstrap, result.slice_classes) if classified else None
                ),
                "patient_classification": (  # several classes are those of pictures, which name no patient
                    patient_classification(patients[source], bootstrap)
                    if classified and not result.slice_classes.several
                    else None
                ),
            }
            for source, rows in slices.items()
        },
    }


def _segmentation(
    result: EvaluationResult, source: str, slices: Sequence[SliceRow], patients: Sequence[PatientRow]
) -> dict[str, Any] | None:
    """Return the scores of the masks of a source, and of all pixels; of several classes those of each."""
    scores, pixels = segmentation_scores(slices, patients, result.bootstrap), result.pixels.get(source)
    if scores is None or pixels is None:
        return scores
    overlap = pixels.overlap
    iou, dice = confusion.iou_score(overlap), confusion.dice_score(overlap)
    scored = [row for row in patients if row.dice is not None]
    if result.classes.several:
        scores["classes"] = {
            name: {
                score_key(metric): mean_estimate(
                    scored, read_score(f"{metric.name}_{name}"), result.bootstrap
                ).to_json()
                for metric in metrics_of("slice", "patient")
            }
            | {"iou_of_all_pixels": float(iou[place]), "dice_of_all_pixels": float(dice[place])}
            for place, name in enumerate(result.classes.names)
        }
    scores["all_pixels"] = {**pixels.to_json(), "mean_class_iou": float(iou.mean())}
    if pixels.cells is not None:
        scores["all_pixels"]["accuracy"] = float(confusion.class_accuracy(pixels.cells))
        scores["all_pixels"]["mean_iou"] = float(confusion.class_mean_iou(pixels.cells))
    return scores


def segmentation_scores(
    slices: Sequence[SliceRow], patients: Sequence[PatientRow], bootstrap: BootstrapSettings
) -> dict[str, Any] | None:
    """Return every score per patient (slices pooled) and per slice; None for a source without masks."""
    scored = [row for row in patients if row.dice is not None]
    masked = [row for row in slices if row.dice is not None]
    if not scored:
        return None
    present = [row for row in scored if not row.empty_reference]
    lesions = [row for row in masked if row.reference_pixels]
    empty = [row for row in masked if row.reference_pixels == 0]
    scores: dict[str, Any] = {
        score_key(metric): _spread(scored, read_score(metric.name), bootstrap)
        for metric in metrics_of("slice", "patient")
    }
    scores["dice_per_patient_with_tumour"] = _spread(present, attrgetter("dice"), bootstrap)
    for metric in metrics_of("slice"):
        mean = mean_estimate(masked, read_score(metric.name), bootstrap)
        scores[f"{metric.name}_per_slice"] = mean.to_json()
    scores["dice_per_tumour_slice"] = mean_estimate(lesions, attrgetter("dice"), bootstrap).to_json()
    scores["empty_reference"] = {
        "num_patients": len(scored) - len(present),
        "num_slices": len(empty),
        "num_slices_left_empty": sum(row.predicted_pixels == 0 for row in empty),
    }
    scores["empty_prediction"] = {
        "num_patients": sum(row.dice == 0 and row.scores["precision"] is None for row in scored),
        "num_tumour_slices": sum(row.predicted_pixels == 0 for row in lesions),
    }
    return scores


def classification_scores(
    rows: Sequence[SliceRow], bootstrap: BootstrapSettings, classes: Classes = TUMOUR_OR_NOT
) -> dict[str, Any]:
    """Return the slice classification of one source, with the majority class as baseline.

    Of several classes also the scores of each, against all others.
    """
    predictions, names = slice_predictions(rows), classes.with_absence
    counts = np.bincount([row.label for row in rows], minlength=len(names))
    most = int(len(names) - 1 - counts[::-1].argmax())
    if classes.several:
        table: Any = predictions.cells().astype(int).tolist()
    else:
        table = {name: int(count) for name, count in predictions.confusion()._asdict().items()}
    scores = {
        "confusion": table,
        "majority_class": names[most],
        "majority_accuracy": float(counts[most] / len(rows)),
        "uncertain": _count_uncertain([row.uncertain for row in rows], [row.right for row in rows]),
        **{
            metric.name: pooled_estimate(metric, rows, bootstrap).to_json() for metric in metrics_of("pooled")
        },
    }
    if classes.several:
        scores["classes"] = {
            name: {
                "num_slices": int(counts[number]),
                **{
                    metric.name: pooled_estimate(metric, rows, bootstrap, number).to_json()
                    for metric in metrics_of("pooled")
                },
            }
            for number, name in enumerate(names)
        }
    return scores


def slice_predictions(rows: Sequence[SliceRow]) -> Predictions:
    """Return the predictions of some slices; of several classes where the rows have their probabilities."""
    labels, predicted = (
        np.array([getattr(row, name) for row in rows], np.float64) for name in ("label", "predicted")
    )
    probabilities = [row.class_probabilities or row.probability for row in rows]
    return Predictions(labels, predicted, np.array(probabilities, np.float64))


def pooled_estimate(
    metric: Metric, rows: Sequence[SliceRow], bootstrap: BootstrapSettings, number: int | None = None
) -> Estimate:
    """Return a pooled metric over slices, its interval over patients.

    `number` is that of one of several classes, against all others; None: all classes.
    """
    predictions = slice_predictions(rows)
    if number is not None:
        predictions = predictions.one_against_others(number)
    groups = [(row.source, row.group) for row in rows]
    return estimate_over_rows(partial(metric.of_predictions, predictions), groups, bootstrap)


def patient_classification(rows: Sequence[PatientRow], bootstrap: BootstrapSettings) -> dict[str, Any]:
    """Return the number of patients of each class of one source, and the metrics of their classification.

    Volumes are classified by all their slices, pictures by their family: a tumour if any picture has one,
    and the highest probability. Where every patient has a tumour, as in BraTS, every metric is None and a
    note says so.
    """
    groups: dict[tuple[str, str], list[PatientRow]] = {}
    for row in rows:
        groups.setdefault((row.source, row.group), []).append(row)
    table = [
        (
            float(any(row.num_tumour_slices for row in own)),
            float(any(row.called for row in own)),
            max(row.tumour_probability for row in own),
        )
        for _, own in sorted(groups.items())
    ]
    whole = Predictions(*np.array(table, dtype=np.float64).reshape(-1, 3).T)
    number, ill = len(whole.labels), int(whole.labels.sum())
    summary: dict[str, Any] = {
        "num_patients": number,
        "num_with_tumour": ill,
        "num_without_tumour": number - ill,
        "num_called": int(whole.predicted.sum()),
        "uncertain": _count_uncertain(
            [max(own, key=attrgetter("tumour_probability")).uncertain for _, own in sorted(groups.items())],
            (whole.predicted == whole.labels).tolist(),
        ),
    }
    note = ""
    if ill in (0, number):
        has = "has a tumour" if ill else "has none"
        note = f"each of {plural(number, 'patient')} {has}: there is nothing to tell apart"
    for metric in metrics_of("pooled"):
        scored = Estimate(None, None, None, number, note)
        if not note:
            scored = estimate(partial(metric.of_predictions, whole), number, bootstrap)
        summary[metric.name] = scored.to_json()
    return summary


def _count_uncertain(uncertain: Sequence[bool], right: Sequence[bool]) -> dict[str, int]:
    """Return the number of uncertain predictions and of the others, and how many of each are wrong."""
    wrong = Counter(own for own, is_right in zip(uncertain, right, strict=True) if not is_right)
    number = sum(uncertain)
    return {
        "num_uncertain": number,
        "num_uncertain_wrong": wrong[True],
        "num_others": len(uncertain) - number,
        "num_others_wrong": wrong[False],
    }


def labelled_scores(section: Mapping[str, Any] | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the printed name and the estimate of every metric in a section of `metrics.json`."""
    for key, value in (section or {}).items():
        if isinstance(value, Mapping) and "value" in value:
            yield score_label(key), value


def headline_scores(entry: Mapping[str, Any]) -> Iterator[tuple[Metric, Mapping[str, Any]]]:
    """Yield the headline metrics of one source of `metrics.json`, each with its estimate."""
    for metric in headline_metrics():
        section = entry["classification" if metric.level == "pooled" else "segmentation"]
        if section:
            yield metric, section[score_key(metric)]


def describe_threshold(metric: Metric, decision: Mapping[str, Any] | None) -> str:
    """Return the threshold behind a metric in words; `decision` is an entry of `decisions`."""
    if decision is None or not metric.uses_threshold:
        return ""
    describe = describe_class_threshold if metric.level == "pooled" else describe_mask_threshold
    return describe(decision)


def read_score(name: str) -> Callable[[SliceRow | PatientRow], float | None]:
    """Return a function that reads a score of a row."""
    return lambda row: row.scores[name]


def mean_estimate(
    rows: Sequence[Row], read: Callable[[Row], float | None], bootstrap: BootstrapSettings
) -> Estimate:
    """Return the mean of a score over the rows that have it, its interval over patients."""
    known = [(value, (row.source, row.group)) for row in rows if (value := read(row)) is not None]
    if rows and not known:
        return Estimate(None, None, None, 0, "undefined everywhere")
    return estimate_mean([value for value, _ in known], [group for _, group in known], bootstrap)


def _spread(
    rows: Sequence[PatientRow], read: Callable[[PatientRow], float | None], bootstrap: BootstrapSettings
) -> dict[str, Any]:
    """Return the mean with its interval, and the spread over patients where there are any."""
    mean = mean_estimate(rows, read, bootstrap).to_json()
    values = [value for row in rows if (value := read(row)) is not None]
    if not values:
        return mean
    low, median, high = np.quantile(values, [0, 0.5, 1])
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {**mean, "std": deviation, "min": float(low), "median": float(median), "max": float(high)}
