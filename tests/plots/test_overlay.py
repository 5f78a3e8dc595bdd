import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from slicewise.imaging.io.image2d import to_png
from slicewise.plots.overlay import (
    PREDICTION,
    TRUTH,
    enlarge,
    enlarge_mask,
    grey,
    overlay,
    overlay_saliency,
    tile,
)

SQUARE = np.zeros((40, 40), np.uint8)
SQUARE[10:30, 12:28] = 1
GREY = np.full((40, 40), 100, np.uint8)


def test_grey_shows_the_window_and_leaves_the_outside_black() -> None:
    image = np.array([[0, -2, -5], [0.5, 3, 9]], np.float16)
    np.testing.assert_array_equal(grey(image), [[0, 0, 0], [128, 255, 255]])


def test_a_mask_is_filled_and_outlined_and_nothing_else_changes() -> None:
    result = overlay(GREY, SQUARE, PREDICTION, opacity=0.5, outline=2)
    assert tuple(result[10, 12]) == PREDICTION
    assert tuple(result[11, 20]) == PREDICTION
    np.testing.assert_array_equal(result[20, 20], np.rint((100 + np.array(PREDICTION)) / 2))
    assert (result[SQUARE == 0] == 100).all()
    assert (GREY == 100).all()


def test_an_outline_lies_inside_the_edge_also_at_the_border() -> None:
    mask = np.random.default_rng(0).random((40, 40)) < 0.9
    core = mask
    for connectivity in (1, 2, 1):
        core = ndimage.binary_erosion(core, ndimage.generate_binary_structure(2, connectivity))
    drawn = (overlay(GREY, mask, PREDICTION, opacity=0.0, outline=3) == PREDICTION).all(axis=2)
    np.testing.assert_array_equal(drawn, mask & ~core)


def test_an_outline_alone_leaves_the_inside_visible() -> None:
    result = overlay(GREY, SQUARE, opacity=0.0, outline=1)
    assert (result[11:29, 13:27] == 100).all()
    assert tuple(result[29, 27]) == PREDICTION


def test_truth_and_prediction_are_told_apart() -> None:
    result = overlay(overlay(GREY, SQUARE, TRUTH), np.roll(SQUARE, 6, axis=1), PREDICTION, 0.0)
    assert tuple(result[20, 12]) == TRUTH
    assert tuple(result[20, 18]) == PREDICTION


def test_heat_grows_lighter_and_anatomy_stays_visible() -> None:
    anatomy = np.tile(np.array([60, 140], np.uint8), (3, 1))
    heat = np.array([[0, 0], [0.5, 0.5], [1, 1]])
    result = overlay_saliency(anatomy, heat).astype(int)
    np.testing.assert_array_equal(result[0], np.repeat(anatomy[0][:, None], 3, axis=1))
    assert (np.abs(result[:, 1] - result[:, 0]).max(axis=-1) >= 20).all()
    assert result[2].sum() > result[0].sum()


def test_heat_that_is_not_finite_shows_as_none() -> None:
    np.testing.assert_array_equal(
        overlay_saliency(GREY, np.full((40, 40), np.nan)), overlay_saliency(GREY, np.zeros((40, 40)))
    )


@pytest.mark.parametrize("shape", [(40, 40), (40, 20), (20, 40, 3)])
def test_enlarging_keeps_the_proportions(shape: tuple[int, ...]) -> None:
    result = enlarge(np.zeros(shape, np.uint8), 160)
    assert result.shape[:2] == (shape[0] * 4, shape[1] * 4)


def test_an_enlarged_mask_keeps_its_share() -> None:
    large = enlarge_mask(SQUARE, 256)
    assert large.shape == (256, 256)
    assert large.mean() == pytest.approx(SQUARE.mean(), rel=0.02)


def test_tiles_stand_in_rows_with_captions() -> None:
    sheet = tile(
        [GREY, overlay(GREY, SQUARE), GREY], ["a", "a caption that is much too long", "c"], columns=2
    )
    one = tile([GREY], ["a"])
    assert sheet.shape[1] < 2 * one.shape[1]
    assert sheet.shape[0] > 1.5 * one.shape[0]
    assert (sheet == 100).all(axis=-1).sum() >= 2 * GREY.size
    column = sheet[:, : GREY.shape[1] + 8]
    assert (column.max(axis=(0, 2)) > 200).any()  # the caption is there


def test_png_is_lossless() -> None:
    picture = overlay(GREY, SQUARE)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(to_png(picture)))), picture)
