"""Smooth random fields, and the points of a grid at which they are evaluated.

A patient is a set of functions of position, so that a whole volume and a single slice come from the same
code at other `Points`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
"""In this package always float32."""

SHAPE = (155, 240, 240)
"""Slices, rows and columns of a BraTS volume (1 mm)."""

MARGIN = 12
"""Fields are also defined this many voxels outside the volume, for pictures of the whole head."""

_UNIT_VARIANCE = 3.0
"""A cubic B-spline of unit normal coefficients has a standard deviation of about a third."""


@dataclass(frozen=True)
class Points:
    """The chosen voxels of a box in the volume, in file order.

    `mask` is bool [Z, Y, X] over the axes `z`, `y`, `x` (voxel coordinates, float32); N is its count.
    """

    z: Floats
    y: Floats
    x: Floats
    mask: Bools

    @classmethod
    def box(cls, z: Floats, y: Floats, x: Floats) -> "Points":
        return cls(z, y, x, np.ones((len(z), len(y), len(x)), dtype=bool))

    def narrow(self, keep: Bools) -> "Points":
        """Return the points for which `keep` (bool [N]) holds."""
        mask = self.mask.copy()
        mask[self.mask] = keep
        return Points(self.z, self.y, self.x, mask)

    def coordinates(self) -> Floats:
        """Return float32 [3, N]: slice, row and column of each point."""
        shape = self.mask.shape
        axes = (self.z[:, None, None], self.y[None, :, None], self.x[None, None, :])
        return np.stack([np.broadcast_to(axis, shape)[self.mask] for axis in axes])

    def grid(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return values [N] as [Z, Y, X], zero elsewhere."""
        volume = np.zeros(self.mask.shape, dtype=values.dtype)
        volume[self.mask] = values
        return volume


class Field:
    """A random cubic B-spline over the volume: unit variance, correlated over about `spacing` mm."""

    def __init__(self, rng: np.random.Generator, spacing: float) -> None:
        shape = tuple(int(np.ceil((size + 2 * MARGIN) / spacing)) + 3 for size in SHAPE)
        self.coefficients = rng.standard_normal(shape, dtype=np.float32) * np.float32(_UNIT_VARIANCE)
        self.spacing = spacing

    def at(self, points: Points) -> Floats:
        """Return float32 [N]. Sums run in a fixed order, so the result does not depend on threads."""
        first, weights = _taps(points.z, self.spacing)
        start = int(first.min())
        needed, first = self.coefficients[start : int(first.max()) + 4], first - start
        rows = self._along(np.ascontiguousarray(needed.transpose(2, 0, 1)), points.x)
        planes = self._along(np.ascontiguousarray(rows.transpose(2, 1, 0)), points.y)  # [Y, Kz, X]
        knots = np.ascontiguousarray(planes.transpose(1, 0, 2))
        out = np.empty(int(points.mask.sum()), dtype=np.float32)
        start, scratch = 0, np.empty(knots.shape[1:], dtype=np.float32)
        for index, mask in enumerate(points.mask):
            plane = knots[first[index]] * weights[0, index]
            for tap in (1, 2, 3):
                np.multiply(knots[first[index] + tap], weights[tap, index], out=scratch)
                plane += scratch
            inside = plane[mask]
            out[start : start + inside.size] = inside
            start += inside.size
        return out

    def _along(self, knots: Floats, positions: Floats) -> Floats:
        """Interpolate the first axis of `knots` at the positions."""
        first, weights = _taps(positions, self.spacing)
        shaped = weights[..., None, None]
        total = knots[first] * shaped[0]
        for tap in (1, 2, 3):
            total += knots[first + tap] * shaped[tap]
        return np.asarray(total)


def _taps(positions: Floats, spacing: float) -> tuple[np.ndarray[Any, Any], Floats]:
    """Return the first knot and the four cubic B-spline weights [4, n] of each position."""
    scaled = (positions.astype(np.float64) + MARGIN) / spacing
    first = np.floor(scaled).astype(np.int64)
    t = scaled - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3])
    return first, (weights / 6).astype(np.float32)


def smoothstep(values: Floats, low: float, high: float) -> Floats:
    """Return a Hermite step from 0 at `low` to 1 at `high`, which may be the smaller."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def bump(values: Floats, width: float) -> Floats:
    """Return exp(-(v / width)^2): a thin sheet around the field's zero level."""
    return np.asarray(np.exp(-np.square(values / np.float32(width))))
