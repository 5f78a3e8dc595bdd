from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.plots.sample_predictions import SlicePicture, draw_samples, grey_image, select_samples

pytestmark = pytest.mark.usefixtures("drawn_figures")


def test_samples_are_the_best_median_and_worst_of_different_patients(
    results: Callable[..., EvaluationResult],
) -> None:
    result = results(num_patients=6, num_pictures=3, skill=0.4)
    dice = {row.key: row.dice or 0 for row in result.slices}
    chosen = select_samples(result.slices, 9)
    assert {name: len(keys) for name, keys in chosen.items()} == {"best": 3, "median": 3, "worst": 3}
    keys = [key for group in chosen.values() for key in group]
    assert len(set(keys)) == 9
    for group in chosen.values():
        assert len({key.patient for key in group}) == 3
    tumour = [row.dice or 0 for row in result.slices if row.reference_pixels]
    assert dice[chosen["best"][0]] == max(tumour)
    assert dice[chosen["worst"][0]] == min(tumour)
    assert min(dice[key] for key in chosen["best"]) >= max(dice[key] for key in chosen["worst"])


def test_the_choice_does_not_depend_on_the_order_of_rows(result: EvaluationResult) -> None:
    assert select_samples(result.slices, 6) == select_samples(result.slices[::-1], 6)


def test_few_slices_are_shown_once_and_none_is_no_error(results: Callable[..., EvaluationResult]) -> None:
    result = results(num_patients=1, num_pictures=0)
    tumour = [row for row in result.slices if row.reference_pixels]
    keys = [key for group in select_samples(tumour[:2], 12).values() for key in group]
    assert sorted(keys) == sorted(row.key for row in tumour[:2])
    assert select_samples([], 12) == {"best": [], "median": [], "worst": []}


def test_grey_shows_flair_first_and_keeps_the_background_black() -> None:
    images = np.zeros((4, 8, 8), np.float16)
    images[0, 2:6, 2:6] = 1
    images[3, 2:6, 2:6] = np.linspace(-2, 2, 16).reshape(4, 4)
    grey = grey_image(images, (True, False, False, True))
    assert grey.dtype == np.float32
    assert grey[0, 0] == 0
    assert grey[2, 2] < grey[3, 3] < grey[5, 4] < grey[5, 5] <= 1
    flat = grey_image(images, (True, False, False, False))
    assert np.array_equal(flat > 0, images[0] > 0)
    assert not grey_image(np.zeros((4, 8, 8)), (True, True, True, True)).any()


def test_the_outline_and_the_prediction_are_visible(tmp_path: Path, result: EvaluationResult) -> None:
    mask = np.zeros((32, 32), bool)
    mask[8:20, 8:20] = True
    grey = np.full((32, 32), 0.4, np.float32)
    sample = SlicePicture(result.slices[0], grey, mask, np.roll(mask, 4, axis=1))
    path = tmp_path / "s.png"
    draw_samples(path, {"best": [sample], "median": [], "worst": [sample]}, synthetic=True)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    assert ((blue > 200) & (red < 120) & (green > 150)).sum() > 50
    assert ((red - blue > 60) & (red > 120)).sum() > 500


def test_nothing_to_show_is_a_figure_all_the_same(tmp_path: Path) -> None:
    draw_samples(tmp_path / "none.png", {"best": []}, synthetic=False)
    assert (tmp_path / "none.png").stat().st_size > 1000
