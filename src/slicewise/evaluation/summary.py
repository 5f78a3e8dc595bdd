"""Scores of an evaluation with intervals, per source: two data sets are never averaged."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np

from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.tables import Estimate, PatientRow, SliceRow, by_source
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.patient_level import patient_classification
from slicewise.evaluation.per_case import MASK_SCORES
from slicewise.evaluation.statistics.bootstrap import (
    BootstrapSettings,
    Floats,
    estimate_mean,
    estimate_over_rows,
)
from slicewise.metrics import confusion

Row = TypeVar("Row", SliceRow, PatientRow)

_VOLUME_ERRORS: dict[str, Callable[[PatientRow], float | None]] = {
    "volume_error_ml": lambda row: row.volume_error_ml,
    "absolute_volume_error_ml": lambda row: _absolute(row.volume_error_ml),
    "relative_volume_error": lambda row: row.relative_volume_error,
    "absolute_relative_volume_error": lambda row: _absolute(row.relative_volume_error),
}


def summarise(result: EvaluationResult) -> dict[str, Any]:
    """Return all scores of a report as plain numbers, text and None, ready for JSON.

    A task that was not trained has no scores and is listed under `not_trained`.
    """
    bootstrap = bootstrap_settings(result)
    slices, patients = by_source(result.slices), by_source(result.patients)
    trained = CLASSIFICATION not in result.not_trained
    return {
        "intervals": {
            "method": "patient bootstrap, expanded percentile; a family of near-identical pictures is one",
            "confidence": bootstrap.confidence,
            "samples": bootstrap.samples,
            "seed": bootstrap.seed,
        },
        "empty_reference_policy": confusion.EMPTY_REFERENCE_POLICY,
        "nsd_tolerance_mm": result.settings.nsd_tolerance_mm,
        # Only where there is something to list: metrics of all other runs stay unchanged.
        **({"not_trained": list(result.not_trained)} if result.not_trained else {}),
        "sources": {
            source: {
                "num_patients": len(patients[source]),
                "num_slices": len(rows),
                "num_tumour_slices": sum(row.label for row in rows),
                "segmentation": segmentation_scores(rows, patients[source], bootstrap),
                "classification": classification_scores(rows, bootstrap) if trained else None,
                "patient_classification": (
                    patient_classification(patients[source], bootstrap) if trained else None
                ),
            }
            for source, rows in slices.items()
        },
    }


def bootstrap_settings(result: EvaluationResult) -> BootstrapSettings:
    """Return how the intervals of a result are drawn."""
    return BootstrapSettings(result.settings.bootstrap_samples, result.settings.confidence, result.seed)


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
    return {
        **{f"{name}_per_patient": _spread(scored, attrgetter(name), bootstrap) for name in MASK_SCORES},
        **{f"{name}_per_patient": _spread(scored, read, bootstrap) for name, read in _VOLUME_ERRORS.items()},
        "dice_per_patient_with_tumour": _spread(present, attrgetter("dice"), bootstrap),
        **{
            f"{name}_per_slice": mean_estimate(masked, attrgetter(name), bootstrap).to_json()
            for name in MASK_SCORES
        },
        "dice_per_tumour_slice": mean_estimate(lesions, attrgetter("dice"), bootstrap).to_json(),
        "empty_reference": {
            "num_patients": len(scored) - len(present),
            "num_slices": sum(row.reference_pixels == 0 for row in masked),
            "num_slices_left_empty": sum(
                row.reference_pixels == 0 and row.predicted_pixels == 0 for row in masked
            ),
        },
        "empty_prediction": {
            "num_patients": sum(row.dice == 0 and row.precision is None for row in scored),
            "num_tumour_slices": sum(row.predicted_pixels == 0 for row in lesions),
        },
    }


def classification_scores(rows: Sequence[SliceRow], bootstrap: BootstrapSettings) -> dict[str, Any]:
    """Return the slice classification of one source, with the majority class as baseline."""
    labels, predicted, scores = (
        np.array([getattr(row, name) for row in rows], dtype=np.float64)
        for name in ("label", "predicted", "probability")
    )
    groups = [(row.source, row.group) for row in rows]
    cells = confusion.count_confusion(labels, predicted)

    def estimate_score(score: Callable[[confusion.Confusion], Floats]) -> dict[str, Any]:
        def statistic(weights: Floats) -> Floats:
            return score(confusion.count_confusion(labels, predicted, weights))

        return estimate_over_rows(statistic, groups, bootstrap).to_json()

    return {
        "confusion": {name: int(count) for name, count in cells._asdict().items()},
        "majority_class": "tumour" if 2 * labels.sum() >= len(labels) else "no_tumour",
        "majority_accuracy": float(confusion.majority_accuracy(cells)),
        "roc_auc": auc_estimate(rows, bootstrap).to_json(),
        "pr_auc": estimate_over_rows(
            lambda weights: confusion.average_precision(labels, scores, weights), groups, bootstrap
        ).to_json(),
        **{name: estimate_score(score) for name, score in confusion.THRESHOLD_SCORES.items()},
    }


def auc_estimate(rows: Sequence[SliceRow], bootstrap: BootstrapSettings) -> Estimate:
    """Return the area under the ROC curve over slices, its interval over patients."""
    labels, scores = [row.label for row in rows], [row.probability for row in rows]
    groups = [(row.source, row.group) for row in rows]
    return estimate_over_rows(lambda weights: confusion.roc_auc(labels, scores, weights), groups, bootstrap)


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


def _absolute(value: float | None) -> float | None:
    return None if value is None else abs(value)
