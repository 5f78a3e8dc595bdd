"""Scores from counts of pixels and of slice predictions, vectorised over cases or bootstrap resamples.

Undefined scores are NaN in the arrays, and null in the reports.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Overlap:
    """Pixels of the reference, of the prediction, of both and in all, one entry per slice (or patient)."""

    reference: Counts
    predicted: Counts
    common: Counts
    total: Counts


@dataclass(frozen=True)
class PixelCounts:
    """The masks of many slices together, by class."""

    overlap: Overlap
    """[K]"""
    cells: Counts | None
    """[C, C] by true and predicted class, the background first; None where classes may overlap"""

    def __add__(self, other: Self) -> Self:
        columns = zip(vars(self.overlap).values(), vars(other.overlap).values(), strict=True)
        cells = None if self.cells is None or other.cells is None else self.cells + other.cells
        return type(self)(Overlap(*(np.add(*pair) for pair in columns)), cells)

    def to_json(self) -> dict[str, Any]:
        columns = {name: np.asarray(values).tolist() for name, values in vars(self.overlap).items()}
        return {**columns, "confusion": None if self.cells is None else self.cells.tolist()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        columns = {column.name: np.array(content[column.name]) for column in fields(Overlap)}
        cells = content["confusion"]
        return cls(Overlap(**columns), None if cells is None else np.array(cells))


def count_overlap(reference: ArrayLike, predicted: ArrayLike) -> Overlap:
    """Count the pixels of two boolean masks [..., row, col]; the leading axes stay.

    Raises:
        ValueError: the shapes differ.
    """
    truth, guess = np.asarray(reference, dtype=bool), np.asarray(predicted, dtype=bool)
    if truth.shape != guess.shape:
        raise ValueError(f"reference {truth.shape} and prediction {guess.shape} differ in shape")
    of_truth, of_guess, common = (
        np.asarray(np.count_nonzero(mask, axis=(-2, -1))) for mask in (truth, guess, truth & guess)
    )
    return Overlap(of_truth, of_guess, common, np.full(truth.shape[:-2], truth.shape[-2] * truth.shape[-1]))


def count_classes(reference: ArrayLike, predicted: ArrayLike, num_classes: int) -> Counts:
    """Count the pairs of class numbers [P, ...] below `num_classes` C: [P, C, C], the reference first."""
    truth, guess = (np.asarray(each).reshape(len(np.asarray(each)), -1) for each in (reference, predicted))
    first = np.arange(len(truth))[:, None] * num_classes**2
    pairs = first + truth.astype(np.int64) * num_classes + guess
    counts = np.bincount(pairs.ravel(), minlength=len(truth) * num_classes**2)
    return counts.reshape(len(truth), num_classes, num_classes)


def class_overlap(cells: ArrayLike) -> Overlap:
    """Return the overlap of each class [..., C] in confusion matrices [..., C, C]."""
    counts = np.asarray(cells)
    common, total = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1))
    return Overlap(
        counts.sum(axis=-1), counts.sum(axis=-2), common, np.broadcast_to(total[..., None], common.shape)
    )


def class_accuracy(cells: ArrayLike) -> Floats:
    """Return the share [...] of correct entries of confusion matrices [..., C, C]."""
    overlap = class_overlap(cells)
    return ratio(np.sum(overlap.common, axis=-1), overlap.total[..., 0])


def class_mean_accuracy(cells: ArrayLike) -> Floats:
    """Return the share of correct entries per class, mean over the reference's classes (Long et al. 2015)."""
    overlap = class_overlap(cells)
    detected = ratio(overlap.common, overlap.reference)
    return ratio(np.nansum(detected, axis=-1), np.isfinite(detected).sum(axis=-1))


def class_mean_iou(cells: ArrayLike) -> Floats:
    """Return the IoU, mean over all classes (Everingham et al. 2010); 1 for a class in neither."""
    return np.asarray(iou_score(class_overlap(cells)).mean(axis=-1))


def dice_score(overlap: Overlap) -> Floats:
    """Return 2|A∩B| / (|A| + |B|) (Dice 1945), 1 where both are empty. Of pixels, F1 is the same number."""
    return ratio(2 * np.asarray(overlap.common), np.add(overlap.reference, overlap.predicted), empty=1.0)


def iou_score(overlap: Overlap) -> Floats:
    """Return |A∩B| / |A∪B| (Jaccard 1901), 1 where both are empty."""
    return ratio(overlap.common, _union(overlap), empty=1.0)


def precision(overlap: Overlap) -> Floats:
    """Return |A∩B| / |B|, B the prediction (van Rijsbergen 1979); 1 where both are empty, NaN where B is."""
    return _one_where_empty(ratio(overlap.common, overlap.predicted), overlap)


def recall(overlap: Overlap) -> Floats:
    """Return |A∩B| / |A|, A the reference (van Rijsbergen 1979); 1 where both are empty, NaN where A is."""
    return _one_where_empty(ratio(overlap.common, overlap.reference), overlap)


def pixel_specificity(overlap: Overlap) -> Floats:
    """Return the share of tumour-free pixels predicted as such (Yerushalmy 1947); NaN where there are none.

    Pixels outside the brain count too, so it is close to 1 for small tumours.
    """
    healthy = np.subtract(overlap.total, overlap.reference)
    return ratio(np.subtract(overlap.total, _union(overlap)), healthy)


def pixel_accuracy(overlap: Overlap) -> Floats:
    """Return the share of correct pixels (Long et al. 2015)."""
    wrong = _union(overlap) - np.asarray(overlap.common)
    return ratio(np.subtract(overlap.total, wrong), overlap.total)


def mean_accuracy(overlap: Overlap) -> Floats:
    """Return the share of correct pixels per class, mean over the reference's classes (Long et al. 2015)."""
    detected = np.stack([ratio(overlap.common, overlap.reference), pixel_specificity(overlap)])
    return ratio(np.nansum(detected, axis=0), np.isfinite(detected).sum(axis=0))


def mean_iou(overlap: Overlap) -> Floats:
    """Return the mean IoU of tumour and background (Everingham et al. 2010); 1 for a class in neither."""
    free = np.subtract(overlap.total, _union(overlap))
    background = np.subtract(overlap.total, overlap.common)
    return (iou_score(overlap) + ratio(free, background, empty=1.0)) / 2


def _union(overlap: Overlap) -> Counts:
    return np.asarray(np.add(overlap.reference, overlap.predicted) - np.asarray(overlap.common))


def _one_where_empty(values: Floats, overlap: Overlap) -> Floats:
    return np.where(_union(overlap) == 0, 1.0, values)


class Confusion(NamedTuple):
    """The four counts of a two-class prediction; floats where they are weighted."""

    true_negative: Floats
    false_positive: Floats
    false_negative: Floats
    true_positive: Floats


def count_confusion(labels: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> Confusion:
    """Count predictions [slice]; `weights` [..., slice] counts each slice that often, per leading index."""
    truth, guess = np.asarray(labels, dtype=bool), np.asarray(predicted, dtype=bool)
    weight = np.ones(truth.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    cells = (~truth & ~guess, ~truth & guess, truth & ~guess, truth & guess)
    return Confusion(*(weight @ cell.astype(np.float64) for cell in cells))


def accuracy(confusion: Confusion) -> Floats:
    """Return the share of correct predictions."""
    return ratio(confusion.true_negative + confusion.true_positive, np.sum(confusion, axis=0))


def sensitivity(confusion: Confusion) -> Floats:
    """Return the share of tumour slices predicted as tumour; NaN without tumour slices."""
    return ratio(confusion.true_positive, confusion.true_positive + confusion.false_negative)


def specificity(confusion: Confusion) -> Floats:
    """Return the share of tumour-free slices predicted as such; NaN without tumour-free slices."""
    return ratio(confusion.true_negative, confusion.true_negative + confusion.false_positive)


def balanced_accuracy(confusion: Confusion) -> Floats:
    """Return the mean of sensitivity and specificity; NaN without both classes. A constant gets 0.5."""
    return (sensitivity(confusion) + specificity(confusion)) / 2


def ppv(confusion: Confusion) -> Floats:
    """Return the share of those predicted as tumour that have one; NaN where none is predicted."""
    return ratio(confusion.true_positive, confusion.true_positive + confusion.false_positive)


def f1(confusion: Confusion) -> Floats:
    """Return the harmonic mean of precision and sensitivity (van Rijsbergen 1979); NaN without any tumour."""
    wrong = confusion.false_positive + confusion.false_negative
    return ratio(2 * confusion.true_positive, 2 * confusion.true_positive + wrong)


def mcc(confusion: Confusion) -> Floats:
    """Return the correlation of labels and predictions (Matthews 1975); NaN without both classes.

    A constant prediction gets 0 (Chicco and Jurman 2020).
    """
    free, alarm, missed, detected = confusion
    classes = np.asarray((detected + missed) * (free + alarm))
    calls = np.asarray((detected + alarm) * (free + missed))
    value = ratio(detected * free - alarm * missed, np.sqrt(classes * calls), empty=0.0)
    return np.where(classes > 0, value, np.nan)


def class_mcc(cells: ArrayLike) -> Floats:
    """Return the correlation of true and predicted classes in confusion matrices [..., C, C] (Gorodkin 2004).

    NaN with a single true class; a constant prediction gets 0.
    """
    overlap = class_overlap(np.asarray(cells, np.float64))
    total = overlap.total[..., 0]
    truth, guess, hits = overlap.reference, overlap.predicted, overlap.common.sum(axis=-1)
    spread = (total**2 - (truth**2).sum(axis=-1)), (total**2 - (guess**2).sum(axis=-1))
    value = ratio(hits * total - (truth * guess).sum(axis=-1), np.sqrt(spread[0] * spread[1]), empty=0.0)
    return np.where(spread[0] > 0, value, np.nan)


def roc_auc(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Return the area under the ROC curve: P(tumour scores higher) + P(equal) / 2 (Mann and Whitney 1947).

    `labels` and `probabilities` are [slice], `weights` [..., slice] counts each slice that often; one area
    per leading index, NaN where a class has no weight.
    """
    tumour, healthy = _by_score(labels, probabilities, weights)
    healthy_below = np.cumsum(healthy, axis=-1) - healthy / 2
    return ratio((tumour * healthy_below).sum(axis=-1), tumour.sum(axis=-1) * healthy.sum(axis=-1))


def average_precision(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None
) -> Floats:
    """Return the area under the precision-recall curve as a sum of steps (Davis and Goadrich 2006).

    Arguments as for `roc_auc`; NaN where a class has no weight: without healthy slices it would be 1, however
    bad the order. A constant gets the share of tumour.
    """
    tumour, healthy = (counts[..., ::-1] for counts in _by_score(labels, probabilities, weights))
    detected = np.cumsum(tumour, axis=-1)
    steps = tumour * ratio(detected, detected + np.cumsum(healthy, axis=-1), empty=0.0)
    area = ratio(steps.sum(axis=-1), tumour.sum(axis=-1))
    return np.where(healthy.sum(axis=-1) > 0, area, np.nan)


def _by_score(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None
) -> tuple[Floats, Floats]:
    """Return the weight of tumour and of healthy slices at each distinct probability, lowest first."""
    truth, scores = np.asarray(labels, dtype=bool), np.asarray(probabilities)
    weight = np.ones(truth.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if not truth.size:
        nothing = np.zeros((*weight.shape[:-1], 0))
        return nothing, nothing
    order = np.argsort(scores, kind="stable")
    first_of_tie = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    tumour = np.add.reduceat(np.where(truth, weight, 0)[..., order], first_of_tie, axis=-1)
    healthy = np.add.reduceat(np.where(truth, 0, weight)[..., order], first_of_tie, axis=-1)
    return tumour, healthy


def ratio(numerator: ArrayLike, denominator: ArrayLike, empty: float = np.nan) -> Floats:
    """Return the quotient, and `empty` where the denominator is 0."""
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    result: Floats = np.full(np.broadcast_shapes(above.shape, below.shape), empty)
    np.divide(above, below, out=result, where=below != 0)
    return result
