"""Smooth random fields, and the points of a grid at which they are evaluated.

A patient is a set of functions of position, so that a whole volume and a single slice come from the same
code at other `Points`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
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
        return Points(self.z, self.y, self.x, self.grid(keep))

    def slabs(self, thickness: int) -> Iterator[tuple[slice, "Points"]]:
        """Yield the points of every `thickness` slices, and which slices these are.

        What is computed for a slab stays in the processor's cache, which is several times as fast.
        """
        for start in range(0, len(self.z), thickness):
            part = slice(start, start + thickness)
            yield part, Points(self.z[part], self.y, self.x, self.mask[part])

    @cached_property
    def places(self) -> np.ndarray[Any, np.dtype[np.intp]]:
        """Position of each point in the flattened box [N]."""
        return np.flatnonzero(self.mask)

    def coordinates(self) -> Floats:
        """Return float32 [3, N]: slice, row and column of each point."""
        shape = self.mask.shape
        axes = (self.z[:, None, None], self.y[None, :, None], self.x[None, None, :])
        return np.stack([np.broadcast_to(axis, shape).ravel().take(self.places) for axis in axes])

    def grid(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return values [N] as [Z, Y, X], zero elsewhere."""
        volume = np.zeros(self.mask.shape, dtype=values.dtype)
        volume.reshape(-1)[self.places] = values
        return volume


class Field:
    """A random cubic B-spline over the volume: unit variance, correlated over about `spacing` mm."""

    def __init__(self, rng: np.random.Generator, spacing: float) -> None:
        shape = tuple(int(np.ceil((size + 2 * MARGIN) / spacing)) + 3 for size in SHAPE)
        self.coefficients = rng.standard_normal(shape, dtype=np.float32) * np.float32(_UNIT_VARIANCE)
        self.spacing = spacing
        self._kept: _Planes | None = None

    def at(self, points: Points) -> Floats:
        """Return float32 [N]. Sums run in a fixed order, so the result does not depend on threads.

        Planes of knots are kept for the next slab of the same rows and columns.
        """
        first, weights = _taps(points.z, self.spacing)
        if len(first) == 1:  # a picture: the axis with one position comes first, as the least work
            knots = np.einsum("k,kyx->yx", weights[:, 0], self.coefficients[first[0] : first[0] + 4])[None]
            return _Planes(knots, self.spacing, points.y, points.x).between(0, 1)[0].take(points.places)
        if self._kept is None or not self._kept.fits(points):
            self._kept = _Planes(self.coefficients, self.spacing, points.y, points.x)
        knots = self._kept.between(int(first[0]), int(first[-1]) + 4)
        out = np.empty(len(points.places), dtype=np.float32)
        plane, scratch = np.empty((2, *points.mask.shape[1:]), dtype=np.float32)
        ends = np.searchsorted(points.places, np.arange(len(first) + 1) * plane.size).tolist()
        for index, (start, shares) in enumerate(zip((first - first[0]).tolist(), weights.T, strict=True)):
            np.multiply(knots[start], shares[0], out=plane)
            for tap in (1, 2, 3):
                np.multiply(knots[start + tap], shares[tap], out=scratch)
                plane += scratch
            inside = slice(ends[index], ends[index + 1])
            plane.take(points.places[inside] - index * plane.size, out=out[inside], mode="clip")
        return out


class _Planes:
    """The knots of a field along z, interpolated at rows and columns: each once, from the lowest up."""

    def __init__(self, coefficients: Floats, spacing: float, y: Floats, x: Floats) -> None:
        self.coefficients, self.y, self.x = coefficients, y, x
        self._rows, self._cols = _taps(y, spacing), _taps(x, spacing)
        self._lowest = 0
        self._planes: list[Floats] = []

    def fits(self, points: Points) -> bool:
        return self.y is points.y and self.x is points.x

    def between(self, lowest: int, end: int) -> list[Floats]:
        """Return the planes [Y, X] of a range of knots; those below it are forgotten."""
        if not self._lowest <= lowest <= self._lowest + len(self._planes):
            self._lowest, self._planes = lowest, []
        del self._planes[: lowest - self._lowest]
        self._lowest = lowest
        missing = self.coefficients[lowest + len(self._planes) : end]
        if len(missing):
            cols = _along(np.ascontiguousarray(missing.transpose(2, 0, 1)), *self._cols)
            rows = _along(np.ascontiguousarray(cols.transpose(2, 1, 0)), *self._rows)  # [Y, K, X]
            self._planes.extend(np.ascontiguousarray(rows.transpose(1, 0, 2)))
        return self._planes


def _along(knots: Floats, first: np.ndarray[Any, Any], weights: Floats) -> Floats:
    """Interpolate the first axis of `knots`."""
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
    t = values * np.float32(1 / (high - low))
    t -= np.float32(low / (high - low))
    np.clip(t, 0, 1, out=t)
    rest = 3 - 2 * t
    t *= t
    t *= rest
    return np.asarray(t)


def bump(values: Floats, width: float) -> Floats:
    """Return exp(-(v / width)^2): a thin sheet around the field's zero level."""
    return np.asarray(np.exp(-np.square(values / np.float32(width))))
