"""Every combination of intensity, crop and fit: the formulas, and the way back onto the file's grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.imaging import ellipsoid
from tests.imaging.ellipsoid import KEY

from slicewise.imaging.slicing import extract_slices, restore_to_volume
from slicewise.imaging.volume import UNIT_SPACING, Volume

INTENSITIES = ("zscore_foreground", "percentile", "unit", "imagenet")
SIZE = 64


def picture(pixels: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None) -> Volume:
    """A picture of three colours."""
    images = np.stack([pixels, pixels // 2, 255 - pixels])[:, None]
    names = ("red", "green", "blue")
    mask = None if mask is None else mask[None]
    return Volume(KEY, images, (True,) * 3, mask, None, UNIT_SPACING, None, channels=names)


@given(
    rows=st.integers(20, 90),
    cols=st.integers(20, 90),
    spacing=st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)),
    corner=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)),
    intensity=st.sampled_from(INTENSITIES),
    crop=st.sampled_from(["brain", "none"]),
    fit=st.sampled_from(["resize", "pad"]),
)
@settings(max_examples=60, deadline=None)
def test_a_mask_comes_back_onto_the_grid_of_the_file(
    rows: int,
    cols: int,
    spacing: tuple[float, float],
    corner: tuple[float, float],
    intensity: str,
    crop: str,
    fit: str,
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(60, 200, (1, 3, rows, cols)).astype(np.int16)
    images[:, :, :2], images[:, :, -2:], images[:, :, :, :2], images[:, :, :, -2:] = 0, 0, 0, 0
    top, left = int(corner[0] * rows), int(corner[1] * cols)
    mask = np.zeros((3, rows, cols), np.uint8)
    mask[1, max(2, top) : top + rows // 3, max(2, left) : left + cols // 3] = 2
    volume = Volume(KEY, images, (True,), mask, None, (3.0, *spacing), None, channels=("grey",))
    chosen = ellipsoid.settings(
        channels=("grey",), image_size=SIZE, intensity=intensity, crop=crop, fit=fit, min_brain_fraction=0.0
    )

    case = extract_slices(volume, chosen)
    back = restore_to_volume(case.masks, case.geometry)

    assert case.images.shape == (3, 1, SIZE, SIZE)
    assert np.isfinite(case.images).all()
    assert back.shape == mask.shape
    if fit == "pad" and (case.geometry.height, case.geometry.width) == (SIZE, SIZE):
        assert np.array_equal(back, mask)
    both = np.count_nonzero((back > 0) & (mask > 0))
    dice = 2 * both / (np.count_nonzero(back) + np.count_nonzero(mask))
    assert dice > 0.75
    assert ((case.masks > 0) & ~case.images.any(1)).sum() <= 0.2 * (case.masks > 0).sum()


def test_a_padded_picture_keeps_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (40, 50)).astype(np.uint8)
    chosen = ellipsoid.settings(
        channels=("red", "green", "blue"), intensity="unit", crop="none", fit="pad", image_size=SIZE
    )

    case = extract_slices(picture(pixels), chosen)

    top, left = (SIZE - 40) // 2, (SIZE - 50) // 2
    inner = case.images[0, :, top : top + 40, left : left + 50]
    np.testing.assert_allclose(inner[0], pixels / 255, atol=1e-3)
    np.testing.assert_allclose(inner[2], (255 - pixels) / 255, atol=1e-3)
    assert np.count_nonzero(case.images[0, 0]) == pixels.size
    assert np.array_equal(restore_to_volume(case.images[:, 0] > 0, case.geometry)[0], np.ones((40, 50), bool))


def test_a_picture_that_is_too_large_is_resized_as_a_whole() -> None:
    mask = np.zeros((200, 100), np.uint8)
    mask[150:, 50:] = 1
    pixels = np.full((200, 100), 128, np.uint8)
    chosen = ellipsoid.settings(
        channels=("red", "green", "blue"), intensity="unit", crop="none", fit="pad", image_size=SIZE
    )

    case = extract_slices(picture(pixels, mask), chosen)

    assert (case.geometry.height, case.geometry.width) == (200, 200)
    assert np.mean(restore_to_volume(case.masks, case.geometry)[0] != mask) < 0.02


@pytest.mark.parametrize("intensity", INTENSITIES)
def test_the_formulas(intensity: str) -> None:
    pixels = np.arange(0, 240, dtype=np.uint8).reshape(15, 16)
    chosen = ellipsoid.settings(
        channels=("red", "green", "blue"),
        intensity=intensity,
        crop="none",
        fit="pad",
        image_size=32,
        clip_percentiles=(0, 100),
    )

    case = extract_slices(picture(pixels), chosen)
    top, left = -case.geometry.top, -case.geometry.left
    red = case.images[0, 0, top : top + 15, left : left + 16].astype(np.float64)

    if intensity == "percentile":
        expected = pixels / 239
    elif intensity == "unit":
        expected = pixels / 255
    elif intensity == "imagenet":
        expected = (pixels / 255 - 0.485) / 0.229
    else:  # of the foreground, which is chosen by brightness
        inside = red != 0
        assert red[inside].mean() == pytest.approx(0, abs=2e-3)
        assert red[inside].std() == pytest.approx(1, abs=2e-3)
        return
    np.testing.assert_allclose(red, expected, atol=2e-3)
    assert (red != 0).all()  # black is inside, too
