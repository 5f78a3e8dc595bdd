"""Overlap and classification scores, from counts: exact, vectorised, and undefined where they are undefined.

Every function takes arrays whose last axis is reduced or whose shape is kept, so that one call scores a case,
and one call scores two thousand bootstrap resamples. NaN stands for "undefined" inside the arrays; it becomes
null in the reports and never a number.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

EMPTY_REFERENCE_POLICY: Final = (
    "Reference and prediction both empty score 1; reference empty and prediction not scores 0. "
    "The number of empty references is given, and the mean over the others beside the mean over all."
)


class Overlap(NamedTuple):
    """Pixels of the reference, of the prediction and of both, one entry per slice (or patient)."""

    reference: Counts
    predicted: Counts
    common: Counts


def count_overlap(reference: ArrayLike, predicted: ArrayLike) -> Overlap:
    """Count the pixels of two boolean masks [..., row, col]; the leading axes stay.

    Raises:
        ValueError: the shapes differ.
    """
    truth, guess = np.asarray(reference, dtype=bool), np.asarray(predicted, dtype=bool)
    if truth.shape != guess.shape:
        raise ValueError(f"reference {truth.shape} and prediction {guess.shape} differ in shape")
    return Overlap(*(np.count_nonzero(mask, axis=(-2, -1)) for mask in (truth, guess, truth & guess)))


def dice_score(overlap: Overlap) -> Floats:
    """Return 2|A∩B| / (|A| + |B|) (Dice 1945), 1 where both are empty."""
    return _ratio(2 * np.asarray(overlap.common), np.add(overlap.reference, overlap.predicted), empty=1.0)


def iou_score(overlap: Overlap) -> Floats:
    """Return |A∩B| / |A∪B| (Jaccard 1901), 1 where both are empty."""
    union = np.add(overlap.reference, overlap.predicted) - np.asarray(overlap.common)
    return _ratio(overlap.common, union, empty=1.0)


class Confusion(NamedTuple):
    """The four counts of a two-class decision; floats where they are weighted."""

    true_negative: Floats
    false_positive: Floats
    false_negative: Floats
    true_positive: Floats


def count_confusion(labels: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> Confusion:
    """Count [slice] decisions; `weights` [..., slice] counts each slice that often, per leading index."""
    truth, guess = np.asarray(labels, dtype=bool), np.asarray(predicted, dtype=bool)
    weight = np.ones(truth.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    cells = (~truth & ~guess, ~truth & guess, truth & ~guess, truth & guess)
    return Confusion(*(weight @ cell.astype(np.float64) for cell in cells))


def accuracy(confusion: Confusion) -> Floats:
    """Return the share of right decisions."""
    return _ratio(confusion.true_negative + confusion.true_positive, np.sum(confusion, axis=0))


def sensitivity(confusion: Confusion) -> Floats:
    """Return the share of tumour slices that were called tumour; NaN without tumour slices."""
    return _ratio(confusion.true_positive, confusion.true_positive + confusion.false_negative)


def specificity(confusion: Confusion) -> Floats:
    """Return the share of tumour-free slices that were called so; NaN without tumour-free slices."""
    return _ratio(confusion.true_negative, confusion.true_negative + confusion.false_positive)


def balanced_accuracy(confusion: Confusion) -> Floats:
    """Return the mean of sensitivity and specificity; NaN without both classes. A constant gets 0.5."""
    return (sensitivity(confusion) + specificity(confusion)) / 2


def majority_accuracy(confusion: Confusion) -> Floats:
    """Return the accuracy of always answering with the more frequent class: the figure to beat."""
    tumour = _ratio(confusion.true_positive + confusion.false_negative, np.sum(confusion, axis=0))
    return np.maximum(tumour, 1 - tumour)


def roc_auc(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Return the area under the ROC curve: P(tumour scores higher) + P(equal) / 2 (Mann and Whitney 1947).

    `labels` and `probabilities` are [slice], `weights` [..., slice] counts each slice that often; one area
    per leading index, NaN where a class has no weight.
    """
    truth, scores = np.asarray(labels, dtype=bool), np.asarray(probabilities)
    weight = np.ones(truth.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if not truth.size:
        return np.full(weight.shape[:-1], np.nan)
    order = np.argsort(scores, kind="stable")
    first_of_tie = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    tumour = np.add.reduceat(np.where(truth, weight, 0)[..., order], first_of_tie, axis=-1)
    healthy = np.add.reduceat(np.where(truth, 0, weight)[..., order], first_of_tie, axis=-1)
    healthy_below = np.cumsum(healthy, axis=-1) - healthy / 2
    return _ratio((tumour * healthy_below).sum(axis=-1), tumour.sum(axis=-1) * healthy.sum(axis=-1))


def _ratio(numerator: ArrayLike, denominator: ArrayLike, empty: float = np.nan) -> Floats:
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    result: Floats = np.full(np.broadcast_shapes(above.shape, below.shape), empty)
    np.divide(above, below, out=result, where=below != 0)
    return result
