"""The axes of a voxel grid in the patient: which one of the patient each follows, and in which direction.

An *order* is [3, 2]: for each axis of an array the axis that it becomes, and 1 or -1 for its direction. These
are the orientations of nibabel (`nibabel.orientations`, MIT), which takes longer to be imported than a
picture to be predicted.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Order = NDArray[np.float64]
RADIOLOGICAL: Final = np.array([[0.0, -1.0], [1.0, -1.0], [2.0, 1.0]])
"""To the patient's left, back and top: columns, rows and slices as radiologists see them"""
_LETTERS: Final = ("LR", "PA", "IS")


def nearest_order(affine: NDArray[np.floating[Any]]) -> Order:
    """Return the axis of the patient that each axis of a file is nearest to; NaN where an affine maps none.

    The nearest ones are those of the rotation in the polar decomposition of the affine.
    """
    matrix = affine[:3, :3]
    sides = np.sqrt(np.sum(matrix * matrix, axis=0))
    sides[sides == 0] = 1
    left, sizes, right = np.linalg.svd(matrix / sides, full_matrices=False)
    keep = sizes > sizes.max() * len(sizes) * np.finfo(np.float64).eps
    rotation = left[:, keep] @ right[keep]
    order = np.full((3, 2), np.nan)
    for axis in np.argsort(np.min(-(rotation**2), axis=0), kind="stable"):  # the clearest first
        column = rotation[:, axis]
        if not np.allclose(column, 0):
            place = np.argmax(np.abs(column))
            order[axis] = place, np.sign(column[place])
            rotation[place] = 0
    return order


def between(start: Order, end: Order) -> Order:
    """Return the order that leads from one order to another.

    Raises:
        ValueError: they do not name the same axes, as with NaN.
    """
    places = {axis: place for place, axis in enumerate(end[:, 0].tolist())}
    if {*places} != {*start[:, 0].tolist()}:
        raise ValueError("the affine does not map three axes")
    rows = [places[axis] for axis in start[:, 0].tolist()]
    return np.array([[place, sign * end[place, 1]] for place, sign in zip(rows, start[:, 1], strict=True)])


def reorder(array: NDArray[Any], order: Order) -> NDArray[Any]:
    """Return a view of a 3-D array with its axes in this order."""
    flipped = array[tuple(slice(None, None, int(sign)) for sign in order[:, 1])]
    return flipped.transpose(np.argsort(order[:, 0]))


def undo_affine(order: Order, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the affine [4, 4] from indices of a reordered array to those of the array of this shape."""
    permutation = np.eye(4)[[*order[:, 0].astype(int), 3]]
    middle = -(np.array(shape) - 1) / 2.0
    flip = np.diag([*order[:, 1], 1.0])
    flip[:3, 3] = order[:, 1] * middle - middle
    return flip @ permutation


def letters(affine: NDArray[np.float64]) -> str:
    """Return the directions of the axes, such as "LPS"."""
    return "".join(_LETTERS[int(axis)][int(sign > 0)] for axis, sign in nearest_order(affine))
