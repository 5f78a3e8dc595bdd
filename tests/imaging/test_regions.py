"""Regions of masks are those of SciPy and OpenCV."""

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slicewise.imaging import regions
from slicewise.imaging.regions import convex_hull, dilate, edge_distance, erode, label

Bools = NDArray[np.bool_]
DISTANCE = 2e-4
"""Pixels: OpenCV adds lengths in fixed point, or in float32 by IPP"""


def masks(shape: tuple[int, ...], count: int = 24, seed: int = 0) -> list[Bools]:
    """Return noise and smooth blobs, sparse to dense, the empty and the full mask."""
    rng, made = np.random.default_rng(seed), [np.zeros(shape, np.bool_), np.ones(shape, np.bool_)]
    for number in range(count):
        field = rng.normal(size=shape)
        smooth = ndimage.gaussian_filter(field, rng.uniform(0.5, 4)) if number % 2 else field
        made.append(np.asarray(smooth > np.quantile(smooth, rng.uniform(0.05, 0.95))))
    return made


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (37, 41), (64, 64)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_connected_parts_of_planes_are_those_of_scipy(shape: tuple[int, int], *, diagonal: bool) -> None:
    for mask in masks(shape):
        expected, number = ndimage.label(mask, np.ones((3, 3)) if diagonal else None)
        labels, found = label(mask, diagonal=diagonal)
        assert found == number
        np.testing.assert_array_equal(labels, expected)


def test_connected_parts_of_volumes_are_those_of_scipy() -> None:
    for mask in masks((9, 14, 17)):
        expected, number = ndimage.label(mask, np.ones((3, 3, 3)))
        labels, found = label(mask)
        assert found == number
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("shape", [(1, 9), (40, 33), (70, 64)])
def test_filled_pieces_are_those_of_opencv(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for mask in masks(shape):
        expected = [regions.large_pieces(mask, share) for share in (0.0, 0.1, 1.0)]
        largest = regions.largest_piece(mask)
        with monkeypatch.context() as patch:
            patch.setattr(regions, "cv2", None)
            for share, filled in zip((0.0, 0.1, 1.0), expected, strict=True):
                np.testing.assert_array_equal(regions.large_pieces(mask, share), filled)
            np.testing.assert_array_equal(regions.largest_piece(mask), largest)


@pytest.mark.parametrize("reach", [1, 2, 7])
def test_growing_and_shrinking_are_those_of_opencv(reach: int) -> None:
    kernel = np.ones((2 * reach + 1,) * 2, np.uint8)
    for mask in [*masks((30, 41), 8), *masks((3, 5), 4)]:
        pixels = mask.astype(np.uint8)
        np.testing.assert_array_equal(dilate(mask, reach), cv2.dilate(pixels, kernel) > 0)
        np.testing.assert_array_equal(erode(mask, reach), cv2.erode(pixels, kernel) > 0)
        closed = cv2.morphologyEx(pixels, cv2.MORPH_CLOSE, kernel) > 0
        np.testing.assert_array_equal(erode(dilate(mask, reach), reach), closed)


def test_distances_are_those_of_opencv() -> None:
    for mask in masks((45, 60), 8):
        padded = np.pad(mask, 1)
        expected = cv2.distanceTransform(padded.astype(np.uint8), cv2.DIST_L2, 5)
        np.testing.assert_allclose(edge_distance(padded), expected, atol=DISTANCE)


def test_a_convex_hull_holds_its_mask_and_is_that_of_opencv_but_for_its_edge() -> None:
    for mask in masks((90, 80), 10, seed=1)[1:]:
        hull, points = convex_hull(mask), np.argwhere(mask)[:, ::-1].astype(np.int32)
        expected: Any = np.zeros(mask.shape, np.uint8)
        cv2.fillConvexPoly(expected, cv2.convexHull(points), 1)
        assert hull[mask].all()
        inner = cv2.erode(expected, np.ones((3, 3), np.uint8), borderValue=0) > 0
        assert hull[inner].all()
        assert not (hull & (cv2.dilate(expected, np.ones((3, 3), np.uint8)) == 0)).any()
