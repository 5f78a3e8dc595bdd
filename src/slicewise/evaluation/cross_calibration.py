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
from slicewise.evaluation.bootstrap import FEWEST, Floats, Resampling
from slicewise.evaluation.calibration import Scaling, calibration_figures, fit_scaling, log_likelihood
from slicewise.evaluation.class_choice import Slices
from slicewise.evaluation.rows import SliceRow


@dataclass(frozen=True)
class FoldSlices:
    """The predicted test slices of one source in one fold, and how the fold calibrated them."""

    number: int
    rows: tuple[SliceRow, ...]
    scaling: Scaling

    @property
    def raw(self) -> Floats:
        """The probabilities as the model gave them."""
        return self.scaling.undo([row.probability for row in self.rows])


def calibrate_across(folds: Sequence[FoldSlices], settings: Evaluation, seed: int) -> dict[str, Any] | None:
    """Return calibration figures of all folds together, their scalings, and the gain over what they reported.

    None where a fold is left too few others to calibrate on, or nothing is to be calibrated.
    """
    parts = [_join([other for other in folds if other is not fold]) for fold in folds]
    if settings.calibrate == "none" or not all(_is_enough(part, settings) for part in parts):
        return None
    shifted = settings.calibrate == "platt"
    scalings = [fit_scaling(part.labels, part.probabilities, shifted=shifted) for part in parts]
    scores = np.concatenate([scaling(fold.raw) for scaling, fold in zip(scalings, folds, strict=True)])
    rows, everyone = [row for fold in folds for row in fold.rows], _join(folds)
    before = log_likelihood(everyone.labels, [row.probability for row in rows])
    how = Resampling(settings.bootstrap_samples, settings.confidence, seed)
    gain = everyone.mean_gain("log-likelihood", log_likelihood(everyone.labels, scores) - before, how)
    calibrated = [replace(row, probability=score) for row, score in zip(rows, scores.tolist(), strict=True)]
    numbers = [str(fold.number) for fold in folds]
    return {
        **calibration_figures(calibrated, settings.calibration_bins),
        "gain": gain.to_json(),
        "scalings": dict(zip(numbers, [scaling._asdict() for scaling in scalings], strict=True)),
    }


def _join(folds: Sequence[FoldSlices]) -> Slices:
    """Return labels, raw probabilities and groups of some folds, in their order."""
    rows = [row for fold in folds for row in fold.rows]
    labels = np.array([row.label for row in rows], np.float64)
    raw = np.concatenate([np.zeros(0), *(fold.raw for fold in folds)])
    return Slices(labels, raw, tuple(row.group for row in rows), is_pictures=False)


def _is_enough(slices: Slices, settings: Evaluation) -> bool:
    enough = slices.num_groups >= settings.min_choice_patients
    return enough and int(slices.classes.sum(axis=0).min()) >= FEWEST
