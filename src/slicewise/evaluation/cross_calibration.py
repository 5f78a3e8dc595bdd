"""Calibration across the folds of a cross-validation: each fold by the test predictions of all others.

A recipe may leave a fold too few validation patients to calibrate on. Then the test predictions of the other
folds stand for them: every patient there was predicted by a model of the same recipe that had not seen it. A
patient's own prediction has no part in its calibration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from slicewise.config.schema import Evaluation
from slicewise.domain.tables import SliceRow
from slicewise.evaluation.class_threshold import SliceProbabilities
from slicewise.evaluation.statistics.bootstrap import MIN_PATIENTS, BootstrapSettings, Floats
from slicewise.inference.calibration import Scaling, calibration_metrics, fit_scaling, log_likelihood


@dataclass(frozen=True)
class FoldPredictions:
    """The predicted test slices of one source in one fold, and how the fold calibrated them."""

    number: int
    rows: tuple[SliceRow, ...]
    scaling: Scaling

    @property
    def raw(self) -> Floats:
        """The probabilities as the model gave them."""
        return self.scaling.undo([row.probability for row in self.rows])


def calibrate_across(
    folds: Sequence[FoldPredictions], settings: Evaluation, seed: int
) -> dict[str, Any] | None:
    """Return calibration figures of all folds together, their scalings, and the gain over what they reported.

    None where a fold is left too few others to calibrate on, or nothing is to be calibrated.
    """
    parts = [_concatenate([other for other in folds if other is not fold]) for fold in folds]
    if settings.calibrate == "none" or not all(_is_enough(part, settings) for part in parts):
        return None
    shifted = settings.calibrate == "platt"
    scalings = [fit_scaling(part.labels, part.probabilities, shifted=shifted) for part in parts]
    scores = np.concatenate([scaling(fold.raw) for scaling, fold in zip(scalings, folds, strict=True)])
    rows, everyone = [row for fold in folds for row in fold.rows], _concatenate(folds)
    before = log_likelihood(everyone.labels, [row.probability for row in rows])
    bootstrap = BootstrapSettings(settings.bootstrap_samples, settings.confidence, seed)
    gain = everyone.mean_gain("log-likelihood", log_likelihood(everyone.labels, scores) - before, bootstrap)
    calibrated = [replace(row, probability=score) for row, score in zip(rows, scores.tolist(), strict=True)]
    numbers = [str(fold.number) for fold in folds]
    return {
        **calibration_metrics(calibrated, settings.calibration_bins),
        "gain": gain.to_json(),
        "scalings": dict(zip(numbers, [scaling._asdict() for scaling in scalings], strict=True)),
    }


def _concatenate(folds: Sequence[FoldPredictions]) -> SliceProbabilities:
    """Return labels, raw probabilities and groups of some folds, in their order."""
    rows = [row for fold in folds for row in fold.rows]
    labels = np.array([row.label for row in rows], np.float64)
    raw = np.concatenate([np.zeros(0), *(fold.raw for fold in folds)])
    return SliceProbabilities(labels, raw, tuple(row.group for row in rows), is_pictures=False)


def _is_enough(slices: SliceProbabilities, settings: Evaluation) -> bool:
    enough = slices.num_groups >= settings.min_choice_patients
    return enough and int(slices.classes.sum(axis=0).min()) >= MIN_PATIENTS
