"""Axes of a grid are those of nibabel."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from slicewise.imaging.axes import RADIOLOGICAL, between, letters, nearest_order, reorder, undo_affine


def test_orders_of_any_affine_are_those_of_nibabel() -> None:
    rng, radiological = np.random.default_rng(0), orientations.axcodes2ornt(("L", "P", "S"))
    np.testing.assert_array_equal(RADIOLOGICAL, radiological)
    for number in range(300):
        affine = rng.normal(size=(4, 4))
        if number % 3 == 0:  # ties
            affine[:3, :3] = np.round(affine[:3, :3])
        if number % 10 == 0:
            affine[:3, 0] = 0
        expected, order = orientations.io_orientation(affine), nearest_order(affine)
        np.testing.assert_array_equal(order, expected)
        if np.isnan(order).any():
            with pytest.raises(ValueError, match="three axes"):
                between(order, RADIOLOGICAL)
            continue
        assert letters(affine) == "".join(nib.aff2axcodes(affine))


@pytest.mark.parametrize("axes", [*permutations(range(3))], ids=str)
def test_arrays_follow_them(axes: tuple[int, ...]) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    for signs in product((-1.0, 1.0), repeat=3):
        order = np.array([*zip(axes, signs, strict=True)])
        change, radiological = between(order, RADIOLOGICAL), orientations.axcodes2ornt(("L", "P", "S"))
        np.testing.assert_array_equal(change, orientations.ornt_transform(order, radiological))
        np.testing.assert_array_equal(reorder(array, change), orientations.apply_orientation(array, change))
        undone = orientations.inv_ornt_aff(change, array.shape)
        np.testing.assert_array_equal(undo_affine(change, array.shape), undone)
        np.testing.assert_array_equal(reorder(reorder(array, change), between(RADIOLOGICAL, order)), array)
