"""From the tables to the figures of merit, per source: two data sets are never averaged into one number."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicewise.evaluation import metrics
from slicewise.evaluation.bootstrap import (
    Estimate,
    Floats,
    Resampling,
    Statistic,
    estimate,
    group_rows,
    mean_of,
)
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.rows import PatientRow, SliceRow, by_source

_DECISION_SCORES: dict[str, Callable[[metrics.Confusion], Floats]] = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "sensitivity": metrics.sensitivity,
    "specificity": metrics.specificity,
}


def summarise(result: EvaluationResult) -> dict[str, Any]:
    """Return everything a report says, as plain numbers, text and None, ready for JSON."""
    how = resampling(result)
    slices, patients = by_source(result.slices), by_source(result.patients)
    return {
        "thresholds": {"mask": result.settings.mask_threshold, "class": result.settings.class_threshold},
        "intervals": {
            "method": "patient bootstrap, percentile",
            "confidence": how.confidence,
            "samples": how.samples,
            "seed": how.seed,
        },
        "empty_reference_policy": metrics.EMPTY_REFERENCE_POLICY,
        "sources": {
            source: {
                "num_patients": len(patients[source]),
                "num_slices": len(rows),
                "num_tumour_slices": sum(row.label for row in rows),
                "segmentation": segmentation_scores(rows, patients[source], how),
                "classification": classification_scores(rows, how),
            }
            for source, rows in slices.items()
        },
    }


def resampling(result: EvaluationResult) -> Resampling:
    """Return how the intervals of a result are drawn."""
    return Resampling(result.settings.bootstrap_samples, result.settings.confidence, result.seed)


def segmentation_scores(
    slices: Sequence[SliceRow], patients: Sequence[PatientRow], how: Resampling
) -> dict[str, Any] | None:
    """Return Dice and IoU per patient (slices pooled) and per slice; None for a source without masks."""
    scored = [row for row in patients if row.dice is not None]
    masked = [row for row in slices if row.dice is not None]
    if not scored:
        return None
    present = [row for row in scored if not row.empty_reference]
    return {
        "dice_per_patient": _mean_and_spread([row.dice or 0.0 for row in scored], how),
        "iou_per_patient": _mean_and_spread([row.iou or 0.0 for row in scored], how),
        "dice_per_patient_with_tumour": _mean_and_spread([row.dice or 0.0 for row in present], how),
        "dice_per_slice": slice_mean(masked, how).to_json(),
        "dice_per_tumour_slice": slice_mean([row for row in masked if row.reference_pixels], how).to_json(),
        "empty_reference": {
            "num_patients": len(scored) - len(present),
            "num_slices": sum(row.reference_pixels == 0 for row in masked),
            "num_slices_left_empty": sum(
                row.reference_pixels == 0 and row.predicted_pixels == 0 for row in masked
            ),
        },
    }


def classification_scores(rows: Sequence[SliceRow], how: Resampling) -> dict[str, Any]:
    """Return the slice classification of one source, with the majority answer beside it."""
    labels, calls = _column(rows, "label"), _column(rows, "predicted")
    cells = metrics.count_confusion(labels, calls)
    return {
        "confusion": {name: int(count) for name, count in cells._asdict().items()},
        "majority_class": "tumour" if 2 * labels.sum() >= len(labels) else "no_tumour",
        "majority_accuracy": float(metrics.majority_accuracy(cells)),
        "roc_auc": auc_estimate(rows, how).to_json(),
        **{
            name: _over_slices(rows, _decision_statistic(labels, calls, score), how).to_json()
            for name, score in _DECISION_SCORES.items()
        },
    }


def auc_estimate(rows: Sequence[SliceRow], how: Resampling) -> Estimate:
    """Return the area under the ROC curve over slices, its interval over patients."""
    labels, scores = _column(rows, "label"), _column(rows, "probability")
    return _over_slices(rows, lambda weights: metrics.roc_auc(labels, scores, weights), how)


def slice_mean(rows: Sequence[SliceRow], how: Resampling) -> Estimate:
    """Return the mean Dice over slices, its interval over patients."""
    return _over_slices(rows, mean_of(row.dice or 0.0 for row in rows), how)


def _over_slices(rows: Sequence[SliceRow], statistic: Statistic, how: Resampling) -> Estimate:
    """Bootstrap a statistic of slice weights: a patient drawn twice counts each of its slices twice."""
    names, owner = group_rows((row.source, row.patient) for row in rows)
    return estimate(lambda weights: statistic(weights[:, owner]), len(names), how, width=len(rows))


def _decision_statistic(
    labels: NDArray[Any], calls: NDArray[Any], score: Callable[[metrics.Confusion], Floats]
) -> Statistic:
    return lambda weights: score(metrics.count_confusion(labels, calls, weights))


def _mean_and_spread(values: list[float], how: Resampling) -> dict[str, Any]:
    found = estimate(mean_of(values), len(values), how).to_json()
    if not values:
        return found
    low, median, high = np.quantile(values, [0, 0.5, 1])
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {**found, "std": deviation, "min": float(low), "median": float(median), "max": float(high)}


def _column(rows: Sequence[SliceRow], name: str) -> NDArray[np.float64]:
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)
