"""How a file's voxel grid lies in the patient, and whether those of two files are the same.

Affines follow NIfTI-1: voxel indices to mm that grow to the patient's right, front and top (RAS+). Grids are
compared in the patient (mm), so the order and direction of a file's axes do not matter. Two grids are the
same if no voxel is displaced by more than half a voxel along any axis.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slicewise.imaging.axes import RADIOLOGICAL, Order, between, letters, nearest_order, reorder, undo_affine

_MIN_MM, _MAX_MM = 1e-4, 1e6
"""An affine outside this range is damaged: areas and volumes computed from it would overflow."""
_MIN_VOLUME_RATIO = 1e-6
"""Volume of a voxel over the product of its sides: below this, two axes coincide."""
MAX_DISPLACEMENT: Final = 0.5
"""Voxels along each axis: resampling to the nearest neighbour would then change nothing."""
_MIN_OFFSET_MM: Final = 0.05
_SAME_AXES: Final = np.array([[0, 1], [1, 1], [2, 1]])
"""What `_order` returns for files that store their axes alike."""

Affine: TypeAlias = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Orientation:
    """A file's own grid: its affine (voxel to mm, RAS+) and shape, both in the file's axis order."""

    affine: Affine
    shape: tuple[int, int, int]
    header: bytes
    """The file's NIfTI header; files written on this grid repeat its geometry."""
    assumed: bool = False
    """Whether the header holds no orientation (qform and sform code are 0)."""

    @property
    def is_usable(self) -> bool:
        """Whether the affine is finite, maps a volume, and has a plausible size."""
        affine = self.matrix()
        if not np.isfinite(affine).all() or np.abs(affine).max() > _MAX_MM:
            return False
        lengths, volume = voxel_sides(affine), abs(float(np.linalg.det(affine[:3, :3])))
        return bool(lengths.min() > _MIN_MM and volume > _MIN_VOLUME_RATIO * lengths.prod())

    @property
    def axes(self) -> str:
        """Directions of the file's axes, such as "LPS"."""
        return letters(self.matrix())

    def matrix(self) -> NDArray[np.float64]:
        """Return the affine, [4, 4]."""
        return np.array(self.affine)

    def to_radiological(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view [slice, row, col] of an array in file order."""
        return reorder(array, self._transform()).T

    def to_file_order(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view in file order of an array [slice, row, col]."""
        return reorder(array.T, between(RADIOLOGICAL, nearest_order(self.matrix())))

    def spacing(self) -> tuple[float, float, float]:
        """Return the mm between voxels along (slice, row, col)."""
        inverse = undo_affine(self._transform(), self.shape)
        cols, rows, slices = voxel_sides(self.matrix() @ inverse).tolist()
        return slices, rows, cols

    def skew(self) -> float:
        """Return the largest deviation of two axes from a right angle, in degrees."""
        directions = self.matrix()[:3, :3] / voxel_sides(self.matrix())
        cosines = np.abs(directions.T @ directions)[np.triu_indices(3, 1)]
        return float(np.degrees(np.arcsin(cosines.clip(0, 1))).max())

    def _transform(self) -> Order:
        return between(nearest_order(self.matrix()), RADIOLOGICAL)


def voxel_sides(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lengths [3] of a voxel's sides, in mm."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def format_sizes(sizes: Iterable[float], spec: str = "") -> str:
    """Return "2 x 1 x 1"."""
    return " x ".join(f"{size:{spec}}" for size in sizes)


class GridMismatch(NamedTuple):
    """How a grid differs from the first one of its case, and whether voxels still correspond one to one."""

    message: str
    usable: bool


def displacement(transform: NDArray[np.floating[Any]], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return how far an affine [4, 4] between voxel indices moves each corner of a grid, in voxels [3, 8]."""
    ends = np.array(np.meshgrid(*((0, size - 1) for size in shape), indexing="ij"), np.float64).reshape(3, -1)
    return np.asarray(transform[:3, :3] @ ends + transform[:3, 3:] - ends, np.float64)


def reorder_axes(first: Orientation, other: Orientation, array: NDArray[Any]) -> NDArray[Any]:
    """Return a view of an array in the file order of `other` with its axes ordered as those of `first`."""
    return reorder(array, _order(first, other))


def compare_grids(name: str, first: Orientation, other: Orientation) -> GridMismatch | None:
    """Compare a grid with that of the first file of its case, called `name`; None if they are the same.

    A grid that is only shifted, in a file that stores its axes alike, is usable: programs lose the origin,
    and voxels then still correspond one to one.
    """
    if (first.shape, first.affine) == (other.shape, other.affine):
        return None
    mismatch = _compare(name, first, other)
    if mismatch is None or mismatch.usable or first.assumed == other.assumed:
        return mismatch
    header, source = ("its header", name) if other.assumed else (f"the header of {name}", "this file")
    return GridMismatch(
        f"cannot be aligned with {name}: {header} holds no orientation (qform and sform code are 0); "
        f"if both store their voxels alike, copy the geometry of {source} (`fslcpgeom FROM TO`)",
        usable=False,
    )


def _compare(name: str, first: Orientation, other: Orientation) -> GridMismatch | None:
    order = _order(first, other)
    sizes = dict(zip(order[:, 0].astype(int).tolist(), other.shape, strict=True))
    shape = (sizes[0], sizes[1], sizes[2])
    affine = other.matrix() @ undo_affine(order, other.shape)
    resample = f"; resample it to the grid of {name}"
    if shape != first.shape:
        return GridMismatch(_describe(name, first, affine, shape, None) + resample, usable=False)
    displacements = displacement(np.linalg.solve(first.matrix(), affine), shape)
    if np.abs(displacements).max() <= MAX_DISPLACEMENT:
        return None
    shift = displacements.mean(axis=1, keepdims=True)
    message = _describe(name, first, affine, shape, first.matrix()[:3, :3] @ shift[:, 0])
    if np.abs(displacements - shift).max() > MAX_DISPLACEMENT:
        return GridMismatch(message + resample, usable=False)
    if not np.array_equal(order, _SAME_AXES):
        message += f", and its axes run {other.axes} where {name} has {first.axes}; correct the wrong affine"
        return GridMismatch(f"{message}, or resample one file to the grid of the other", usable=False)
    return GridMismatch(
        f"{message}; used voxel by voxel nevertheless, so register them if they do not show the same place",
        usable=True,
    )


def _order(first: Orientation, other: Orientation) -> Order:
    """Return which axis of `first` each axis of `other` follows, and in which direction, [3, 2]."""
    return nearest_order(np.linalg.solve(first.matrix(), other.matrix()))


def _describe(
    name: str,
    first: Orientation,
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    offset: NDArray[np.float64] | None,
) -> str:
    """Return how a grid differs from the first one, that of `name`: size, spacing, rotation and position.

    `affine` and `shape` have the axes in the order of the first; `offset` is from its centre, mm in RAS+.
    """
    sides, first_sides = (format_sizes(voxel_sides(grid), ".4g") for grid in (affine, first.matrix()))
    directions, first_directions = (grid[:3, :3] / voxel_sides(grid) for grid in (affine, first.matrix()))
    cosines = (first_directions * directions).sum(axis=0).clip(-1, 1)
    degrees = float(np.degrees(np.arccos(cosines)).max())
    parts = []
    if shape != first.shape:
        parts.append(f"{format_sizes(shape)} voxels where {name} has {format_sizes(first.shape)}")
    if sides != first_sides:
        parts.append(f"voxels of {sides} mm where {name} has {first_sides} mm")
    if round(degrees, 1):
        parts.append(f"rotated by {degrees:.1f} degrees relative to {name}")
    if offset is not None and np.linalg.norm(offset) >= _MIN_OFFSET_MM:
        right, front, top = (f"{length:+.1f}" for length in offset)
        parts.append(
            f"its centre is {np.linalg.norm(offset):.1f} mm from that of {name} "
            f"(right {right}, front {front}, top {top})"
        )
    return ", ".join(parts)
