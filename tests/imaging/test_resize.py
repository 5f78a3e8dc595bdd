"""Resizing without OpenCV gives OpenCV's bits."""

from typing import Any

import cv2
import numpy as np
import pytest

from slicewise.imaging import resize
from slicewise.imaging.resize import interpolate, mean_over_areas, resize_image, resize_to


@pytest.fixture
def without_opencv(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(resize, "cv2", None)
    return monkeypatch


def image(rng: np.random.Generator, shape: Any, channels: int) -> Any:
    sizes = (*shape, channels) if channels > 1 else tuple(shape)
    return rng.normal(size=sizes).astype(np.float32)


def opencv(picture: Any, size: tuple[int, int], method: int) -> Any:
    return cv2.resize(picture, size[::-1], interpolation=method)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_size_has_the_bits_of_opencv(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(channels)
    for _ in range(60):
        picture = image(rng, rng.integers(8, 200, 2), channels)
        rows, cols = rng.integers(4, 200, 2).tolist()
        with monkeypatch.context() as patch:
            patch.setattr(resize, "cv2", None)
            bare = resize_image(picture, (rows, cols))
        np.testing.assert_array_equal(bare, resize_image(picture, (rows, cols)))


@pytest.mark.parametrize("block", [(1, 2), (2, 2), (3, 3), (2, 5), (4, 4)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_means_over_whole_blocks_do_too(block: tuple[int, int], channels: int) -> None:
    rng, (down, across) = np.random.default_rng(0), block
    for rows, cols in rng.integers(5, 40, (8, 2)).tolist():
        picture = image(rng, (rows * down, cols * across), channels)
        expected = opencv(picture, (rows, cols), cv2.INTER_AREA)
        np.testing.assert_array_equal(mean_over_areas(picture, (rows, cols)), expected)


def test_means_of_sharp_pixels_do_too() -> None:
    rng = np.random.default_rng(1)
    for rows, cols in rng.integers(8, 60, (20, 2)).tolist():
        picture, scale = image(rng, (rows, cols), 1), float(rng.uniform(0.5, 3))
        size = max(4, round(rows * scale)), max(4, round(cols * scale))
        np.testing.assert_array_equal(resize_to(picture, size), opencv(picture, size, cv2.INTER_AREA))


def test_a_constant_stays_constant_and_halves_lie_between() -> None:
    np.testing.assert_allclose(interpolate(np.full((5, 5), 3, np.float32), (9, 11)), 3, rtol=1e-6)
    np.testing.assert_allclose(mean_over_areas(np.arange(6, dtype=np.float32)[None], (1, 2)), [[1, 4]])


def test_several_channels_are_each_as_if_alone(without_opencv: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    parts = [image(rng, (50, 40), 1) for _ in range(4)]
    bare = [*resize.resize_channels(parts, (20, 30))]
    without_opencv.undo()
    for one, other in zip(bare, resize.resize_channels(parts, (20, 20 + 10)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_products_are_rounded_to_float16_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    for exponent in range(-8, 6):
        picture = image(rng, (40, 33), 1)
        weights = (rng.uniform(1, 2, picture.shape) * 10.0**exponent).astype(np.float32)
        with monkeypatch.context() as patch:
            patch.setattr(resize, "cv2", None)
            bare = resize.multiply_to_half(picture, weights)
        np.testing.assert_array_equal(bare, resize.multiply_to_half(picture, weights))
