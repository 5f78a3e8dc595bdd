"""Whether a head still has its skull: beneath the bright scalp, bone is dark in every MRI sequence."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.imaging.regions import dilate, edge_distance, erode, largest_piece

SKULL: Final = 0.15
"""From this ring contrast on there is a skull: BraTS has 0.03 to 0.14, heads of public pictures 0.2 to 0.7"""
_SECTORS, _DEPTHS, _RING = 24, 25, 12
"""Directions from the centre; steps from the outline to the deepest point, and those that are searched"""
_MIN_AREA: Final = 0.12
"""Of the slice; smaller pieces have no ring to measure"""
_MIN_STEPS: Final = 8
_MIDDLE, _SLICES = (0.35, 0.75), 5
"""Where the slices lie that are measured"""


def skull_contrast(images: NDArray[Any], presence: Sequence[bool]) -> float:
    """Return the median `ring_contrast` of some middle slices [S, channel, N, N]; 0 where there is none."""
    rows = np.unique(np.quantile(np.arange(len(images)), np.linspace(*_MIDDLE, _SLICES), method="nearest"))
    filled = np.flatnonzero(presence)
    contrasts = [ring_contrast(images[row, channel]) for row in rows for channel in filled]
    known = [contrast for contrast in contrasts if np.isfinite(contrast)]
    return float(np.median(known)) if known else 0.0


def ring_contrast(image: NDArray[Any]) -> float:
    """Return how dark a ring beneath the outline is, as a share of the range of the slice.

    In each direction it is the depth of the deepest valley between two brighter layers; the result is the
    median over the directions, NaN where the head is too small.

    Args:
        image: [row, col], 0 outside the head, as `extract_slices` gives.
    """
    filled = largest_piece(erode(dilate(image != 0, 1), 1))
    if filled.mean() < _MIN_AREA:
        return float("nan")
    depth = edge_distance(np.pad(filled, 1))[1:-1, 1:-1]
    rows, cols = np.nonzero(filled)
    values = image[rows, cols].astype(np.float64)
    low, high = np.percentile(values, [5, 95])
    angle = np.arctan2(rows - rows.mean(), cols - cols.mean()) / (2 * np.pi) + 0.5
    sector = np.minimum((angle * _SECTORS).astype(int), _SECTORS - 1)
    step = np.minimum((depth[rows, cols] / depth.max() * _DEPTHS).astype(int), _DEPTHS - 1)
    cells = sector * _DEPTHS + step
    counts = np.bincount(cells, minlength=_SECTORS * _DEPTHS).reshape(_SECTORS, _DEPTHS)[:, :_RING]
    sums = np.bincount(cells, (values - low) / max(high - low, 1e-6), _SECTORS * _DEPTHS)
    sums = sums.reshape(_SECTORS, _DEPTHS)[:, :_RING]
    valleys = [
        _deepest_valley(total[count > 0] / count[count > 0])
        for total, count in zip(sums, counts, strict=True)
        if np.count_nonzero(count) >= _MIN_STEPS
    ]
    return float(np.median(valleys)) if valleys else float("nan")


def _deepest_valley(profile: NDArray[np.float64]) -> float:
    """Return how far a step lies below the brightest on both sides of it, at most; 0 without a valley."""
    outer = np.maximum.accumulate(profile)
    inner = np.maximum.accumulate(profile[::-1])[::-1]
    return float(max(0.0, (np.minimum(outer, inner) - profile)[1:-1].max()))
