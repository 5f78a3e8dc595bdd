"""Distances between the borders of two masks, and scores from them.

MONAI finds the borders and measures between them; its own scores cannot pool the borders of several slices
and cases.

A mask's border is its pixels that have a neighbour, sharing a side or face, outside the mask; the image's
edge counts as outside.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

PERCENTILE: Final = 95.0
BOUNDARY_SHARE: Final = 0.0075
"""Tolerance of the boundary F1 as a share of the slice's diagonal, as its authors set it."""


class SurfaceDistances(NamedTuple):
    """Distance of each border pixel to the other mask's border; infinite where the other mask is empty."""

    of_reference: Floats
    of_prediction: Floats

    @classmethod
    def pooled(cls, parts: "Sequence[SurfaceDistances]") -> "SurfaceDistances":
        """Return the borders of several slices or cases as one."""
        nothing = np.empty(0, np.float32)
        return cls(
            np.concatenate([nothing, *(part.of_reference for part in parts)]),
            np.concatenate([nothing, *(part.of_prediction for part in parts)]),
        )

    def scaled(self, factor: float) -> "SurfaceDistances":
        """Return the distances in another unit."""
        return SurfaceDistances(*(part * np.float32(factor) for part in self))


def surface_distances(reference: Bools, predicted: Bools, spacing: Sequence[float]) -> SurfaceDistances:
    """Return the distances of two masks of one shape, 2-D or 3-D; `spacing`: pixel size along each axis."""
    from monai.metrics.utils import get_mask_edges, get_surface_distance  # torch: two seconds

    guess, truth = get_mask_edges(predicted, reference)
    if truth.any() and guess.any():
        return SurfaceDistances(
            get_surface_distance(truth, guess, spacing=spacing),
            get_surface_distance(guess, truth, spacing=spacing),
        )
    return SurfaceDistances(
        *(np.full(np.count_nonzero(border), np.inf, np.float32) for border in (truth, guess))
    )


def hd95(distances: SurfaceDistances) -> float | None:
    """Return the 95th percentile Hausdorff distance (Huttenlocher et al. 1993, as in BraTS).

    The larger of the two directed percentiles; None unless both masks have a border.
    """
    if not all(part.size and np.isfinite(part).all() for part in distances):
        return None
    return float(max(np.percentile(part, PERCENTILE) for part in distances))


def surface_dice(distances: SurfaceDistances, tolerance: float) -> float:
    """Return the share of both borders within `tolerance` of the other one (NSD, Nikolov et al. 2021).

    1 where both masks are empty, 0 where one is. Border pixels are counted, not weighted by their area.
    """
    total = sum(part.size for part in distances)
    return sum(_close(part, tolerance) for part in distances) / total if total else 1.0


def boundary_f1(distances: SurfaceDistances, tolerance: float) -> float:
    """Return the F1 of border precision and border recall within `tolerance` (Csurka et al. 2013).

    1 where both masks are empty, 0 where one is.
    """
    if not any(part.size for part in distances):
        return 1.0
    recall, precision = (_close(part, tolerance) / part.size if part.size else 0.0 for part in distances)
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def boundary_tolerance(side: int) -> float:
    """Return the boundary F1's tolerance in pixels of a slice of side x side."""
    return BOUNDARY_SHARE * float(np.hypot(side, side))


def _close(distances: Floats, tolerance: float) -> int:
    return int(np.count_nonzero(distances <= np.float32(tolerance)))
