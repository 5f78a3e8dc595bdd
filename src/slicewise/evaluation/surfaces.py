"""How far the borders of two masks lie apart.

SciPy's Euclidean distance transform on the box around both masks: the same numbers as MONAI's voxel-based
functions (a test compares them), without the seconds that importing MONAI adds to every evaluation and at a
fraction of the time per slice.

A mask's border is its pixels that have a neighbour, sharing a side or face, outside the mask; the image's
edge counts as outside.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

PERCENTILE: Final = 95.0
BOUNDARY_SHARE: Final = 0.0075
"""Tolerance of the boundary F1 as a share of the slice's diagonal, as its authors set it."""


class Distances(NamedTuple):
    """Distance of each border pixel to the other mask's border; infinite where the other mask is empty."""

    of_reference: Floats
    of_prediction: Floats

    @classmethod
    def pooled(cls, parts: "Sequence[Distances]") -> "Distances":
        """Join the borders of several slices or cases."""
        nothing = np.empty(0)
        return cls(
            np.concatenate([nothing, *(part.of_reference for part in parts)]),
            np.concatenate([nothing, *(part.of_prediction for part in parts)]),
        )

    def scaled(self, factor: float) -> "Distances":
        """Return the distances in another unit."""
        return Distances(self.of_reference * factor, self.of_prediction * factor)


def border_distances(reference: Bools, predicted: Bools, spacing: Sequence[float]) -> Distances:
    """Measure two masks of the same shape, 2-D or 3-D; `spacing` is the pixel's size along each axis."""
    box = _box(reference | predicted)
    if box is None:
        return Distances(np.empty(0), np.empty(0))
    truth, guess = (_border(mask[box]) for mask in (reference, predicted))
    return Distances(_to(guess, truth, spacing), _to(truth, guess, spacing))


def hd95(distances: Distances) -> float | None:
    """Return the 95th percentile Hausdorff distance (Huttenlocher et al. 1993, as in BraTS).

    The larger of the two directed percentiles; None unless both masks have a border.
    """
    if not all(part.size and np.isfinite(part).all() for part in distances):
        return None
    return float(max(np.percentile(part, PERCENTILE) for part in distances))


def surface_dice(distances: Distances, tolerance: float) -> float:
    """Return the share of both borders within `tolerance` of the other one (NSD, Nikolov et al. 2021).

    1 where both masks are empty, 0 where one is. Border pixels are counted, not weighted by their area.
    """
    total = sum(part.size for part in distances)
    return sum(_close(part, tolerance) for part in distances) / total if total else 1.0


def boundary_f1(distances: Distances, tolerance: float) -> float:
    """Return the F1 of border precision and border recall within `tolerance` (Csurka et al. 2013).

    1 where both masks are empty, 0 where one is.
    """
    if not any(part.size for part in distances):
        return 1.0
    found, right = (_close(part, tolerance) / part.size if part.size else 0.0 for part in distances)
    return 2 * found * right / (found + right) if found + right else 0.0


def boundary_tolerance(side: int) -> float:
    """Return the boundary F1's tolerance in pixels of a slice of side x side."""
    return BOUNDARY_SHARE * float(np.hypot(side, side))


def fill_gaps(masks: Bools, indices: Sequence[int]) -> Bools:
    """Put the slices [S, N, N] at their places in the volume, [last - first + 1, N, N].

    Slices that were dropped hold no tumour in the reference and get none from the network
    (`imaging.restore`): empty slices in their place make the volume what it is, not an approximation.
    """
    places = np.asarray(indices) - min(indices)
    volume = np.zeros((int(places.max()) + 1, *masks.shape[1:]), np.bool_)
    volume[places] = masks
    return volume


def _close(distances: Floats, tolerance: float) -> int:
    return int(np.count_nonzero(distances <= tolerance))


def _border(mask: Bools) -> Bools:
    inner: Bools = ndimage.binary_erosion(mask)
    return mask & ~inner


def _to(target: Bools, border: Bools, spacing: Sequence[float]) -> Floats:
    if not target.any():
        return np.full(np.count_nonzero(border), np.inf)
    distance: Floats = ndimage.distance_transform_edt(~target, sampling=spacing)
    return distance[border]


def _box(mask: Bools) -> tuple[slice, ...] | None:
    """Return the box around a mask; eroding inside it gives the same border as eroding the whole image."""
    axes = range(mask.ndim)
    reach = [np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    if not reach[0].size:
        return None
    return tuple(slice(int(found[0]), int(found[-1]) + 1) for found in reach)
