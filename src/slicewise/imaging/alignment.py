"""Whether the voxels of two files lie at the same places: one rule for checks, training and prediction.

Both grids are compared in the patient (mm), so the order and direction in which a file stores its axes do
not matter. Two grids are the same where the counterpart of each voxel is also its nearest voxel in the other
file: none is displaced by more than half a voxel along any axis.
"""

from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from slicewise.imaging.orientation import Orientation

MAX_DISPLACEMENT: Final = 0.5
"""Of a voxel along each axis: resampling to the nearest neighbour would then change nothing."""


@dataclass(frozen=True)
class GridMismatch:
    """How a grid differs from the first one of its case.

    Attributes:
        what: in words, with the way out.
        usable: whether the files may still be used, voxel on voxel.
    """

    what: str
    usable: bool


def displacement(between: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return how far an affine [4, 4] between voxel indices moves each corner of a grid, in voxels [3, 8]."""
    ends = np.array(np.meshgrid(*((0, size - 1) for size in shape), indexing="ij"), np.float64).reshape(3, -1)
    return between[:3, :3] @ ends + between[:3, 3:] - ends


def reorder_axes(first: Orientation, other: Orientation, array: NDArray[Any]) -> NDArray[Any]:
    """Return a view of an array in the file order of `other` with its axes ordered as those of `first`."""
    return cast(NDArray[Any], orientations.apply_orientation(array, _order(first, other)))


def compare_grids(name: str, first: Orientation, other: Orientation) -> GridMismatch | None:
    """Compare a grid with the first one of its case, which `name` names; None where they are the same.

    A grid that is only shifted, in a file that stores its axes alike, is usable: programs lose the origin,
    and voxels then still correspond one to one. Whether they do is for people to see.
    """
    if (first.shape, first.affine) == (other.shape, other.affine):
        return None
    mismatch = _compare(name, first, other)
    if mismatch is None or mismatch.usable or first.assumed == other.assumed:
        return mismatch
    without, source = ("it", name) if other.assumed else (name, "this file")
    return GridMismatch(
        f"cannot be laid on {name}: {without} says nothing about its orientation (qform and sform code are "
        f"0); if both store their voxels alike, give it the geometry of {source} (`fslcpgeom FROM TO`)",
        usable=False,
    )


def _compare(name: str, first: Orientation, other: Orientation) -> GridMismatch | None:
    order = _order(first, other)
    shape = _reordered(other.shape, order)
    affine = other.matrix() @ orientations.inv_ornt_aff(order, other.shape)
    if shape != first.shape:
        return GridMismatch(
            _describe(name, first, affine, shape, None) + _RESAMPLE.format(name), usable=False
        )
    displacements = displacement(np.linalg.solve(first.matrix(), affine), shape)
    if np.abs(displacements).max() <= MAX_DISPLACEMENT:
        return None
    shift = displacements.mean(axis=1, keepdims=True)
    offset = first.matrix()[:3, :3] @ shift[:, 0]
    what = _describe(name, first, affine, shape, offset)
    if np.abs(displacements - shift).max() > MAX_DISPLACEMENT:
        return GridMismatch(what + _RESAMPLE.format(name), usable=False)
    if not np.array_equal(order, _SAME_AXES):
        return GridMismatch(
            f"{what}, and its axes run {other.axes} where {name} has {first.axes}; correct the affine that "
            "is wrong, or resample one to the grid of the other",
            usable=False,
        )
    return GridMismatch(what + _SHIFTED, usable=True)


_RESAMPLE: Final = "; resample it to the grid of {}"
_SHIFTED: Final = "; voxel is laid on voxel all the same, so register them if they do not show the same place"
_SAME_AXES: Final = np.array([[0, 1], [1, 1], [2, 1]])
"""What `_order` returns for files that store their axes alike."""


def _order(first: Orientation, other: Orientation) -> NDArray[Any]:
    """Return which axis of `first` each axis of `other` follows, and in which direction, [3, 2]."""
    return cast(NDArray[Any], orientations.io_orientation(np.linalg.solve(first.matrix(), other.matrix())))


def _reordered(shape: tuple[int, int, int], order: NDArray[Any]) -> tuple[int, int, int]:
    sizes = dict(zip(order[:, 0].astype(int).tolist(), shape, strict=True))
    return sizes[0], sizes[1], sizes[2]


def _describe(
    name: str,
    first: Orientation,
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    offset: NDArray[np.float64] | None,
) -> str:
    """Say in which of size, spacing, rotation and place a grid differs from the first one.

    Args:
        name: of the first file.
        first: its grid.
        affine: of the other grid, its axes ordered as those of the first.
        shape: of the other grid, likewise.
        offset: from the middle of the first grid to that of the other, mm in RAS+; None to leave it out.
    """
    sides, first_sides = _sides(affine), _sides(first.matrix())
    degrees = _angle(first.matrix(), affine)
    parts = []
    if shape != first.shape:
        parts.append(f"{_times(shape)} voxels where {name} has {_times(first.shape)}")
    if sides != first_sides:
        parts.append(f"voxels of {sides} mm where {name} has {first_sides} mm")
    if round(degrees, 1):
        parts.append(f"turned by {degrees:.1f} degrees against {name}")
    if offset is not None and np.linalg.norm(offset) >= _LEAST_OFFSET_MM:
        right, front, top = (f"{length:+.1f}" for length in offset)
        parts.append(
            f"its middle lies {np.linalg.norm(offset):.1f} mm from that of {name} "
            f"(right {right}, front {front}, top {top})"
        )
    return ", ".join(parts)


_LEAST_OFFSET_MM: Final = 0.05


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _sides(affine: NDArray[np.float64]) -> str:
    return " x ".join(f"{length:.4g}" for length in np.linalg.norm(affine[:3, :3], axis=0))


def _angle(first: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest angle between an axis of one grid and the same axis of the other, in degrees."""
    ours, theirs = (matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (first, other))
    cosines = (ours * theirs).sum(axis=0).clip(-1, 1)
    return float(np.degrees(np.arccos(cosines)).max())
