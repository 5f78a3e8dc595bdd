"""Scores of one region of a tumour as in BraTS: of the whole mask, and lesion by lesion.

They are those of the package `brats-evaluation` 0.0.10 (configuration `gli`), with which the challenges of
2026 are ranked; it rests on panoptica 2.1 (Kofler et al. 2023, https://arxiv.org/abs/2312.02608). A lesion is
a connected part of a mask (26 neighbours). Lesions of reference and prediction are paired one to one so that
the sum of their Dice is largest; the scores are means over the pairs. The lesion-wise scores of BraTS 2023
were others: they joined the lesions of the reference by dilation, and counted missed and false ones with a
Dice of 0 and 374 mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from slicewise.metrics.surface_distance import PERCENTILE, SurfaceDistances, surface_distances

Bools = NDArray[np.bool_]

_CONNECTIVITY: Final = ndimage.generate_binary_structure(3, 3)
_LEAST_DICE: Final = 1e-6
"""Of a pair"""
_MARGIN: Final = 2
"""Voxels around a pair of lesions: a border is a border only if there is something outside it"""


@dataclass(frozen=True)
class Lesions:
    """The lesions of one class in one volume, or in several."""

    num_reference: int
    num_predicted: int
    dice: Sequence[float] = field(default=())
    """Of each pair"""
    hd95_mm: Sequence[float] = field(default=())
    """Likewise"""

    @classmethod
    def pooled(cls, parts: "Sequence[Lesions]") -> "Lesions":
        """Return the lesions of several volumes as those of one."""
        return cls(
            sum(part.num_reference for part in parts),
            sum(part.num_predicted for part in parts),
            [*chain.from_iterable(part.dice for part in parts)],
            [*chain.from_iterable(part.hd95_mm for part in parts)],
        )

    @property
    def mean_dice(self) -> float:
        """The mean over the pairs; 0 where there is none, NaN without any lesion."""
        return float(np.mean(self.dice)) if self.dice else 0.0 if self._any else np.nan

    @property
    def mean_hd95_mm(self) -> float:
        """The mean over the pairs; infinite where there is none, NaN without any lesion."""
        return float(np.mean(self.hd95_mm)) if self.hd95_mm else np.inf if self._any else np.nan

    @property
    def f1(self) -> float:
        """Twice the pairs, divided by all lesions of reference and prediction; NaN without any lesion."""
        return 2 * len(self.dice) / self._any if self._any else np.nan

    @property
    def _any(self) -> int:
        return self.num_reference + self.num_predicted


def pooled_hd95(distances: SurfaceDistances) -> float:
    """Return the 95th percentile of the distances of both borders together; infinite where a mask is empty.

    `surface_distance.hd95` is the larger of the two directed percentiles instead.
    """
    both = np.concatenate(distances).astype(np.float64)
    return float(np.percentile(both, PERCENTILE)) if both.size and np.isfinite(both).all() else np.inf


def find_lesions(reference: Bools, predicted: Bools, spacing: Sequence[float]) -> Lesions:
    """Return the lesions of two masks [slice, row, col], paired, with the scores of each pair."""
    (truths, num_truths), (guesses, num_guesses) = (
        ndimage.label(mask, structure=_CONNECTIVITY) for mask in (reference, predicted)
    )
    shape = num_truths + 1, num_guesses + 1
    places = np.ravel_multi_index((truths.ravel(), guesses.ravel()), shape)
    table = np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)
    sizes = table.sum(axis=1)[1:, None] + table.sum(axis=0)[None, 1:]
    dice = 2 * table[1:, 1:] / np.maximum(sizes, 1)
    pairs = [*zip(*linear_sum_assignment(dice, maximize=True), strict=True)]
    pairs = [pair for pair in pairs if dice[pair] >= _LEAST_DICE]
    boxes = ndimage.find_objects(truths), ndimage.find_objects(guesses)
    distances = []
    for truth, guess in pairs:
        box = _around(boxes[0][truth], boxes[1][guess])
        own = surface_distances(truths[box] == truth + 1, guesses[box] == guess + 1, spacing)
        distances.append(pooled_hd95(own))
    return Lesions(num_truths, num_guesses, [float(dice[pair]) for pair in pairs], distances)


def _around(*boxes: tuple[slice, ...]) -> tuple[slice, ...]:
    """Return the box around two boxes with a margin, where the volume has one."""
    return tuple(
        slice(max(min(part.start for part in axis) - _MARGIN, 0), max(part.stop for part in axis) + _MARGIN)
        for axis in zip(*boxes, strict=True)
    )
