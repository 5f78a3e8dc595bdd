"""A classifier that looks at one quadrant alone: what its explanation must be is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from slicewise.explain.faithfulness import STEPS, compute_curves, random_saliency

SIDE = 32
Floats = NDArray[np.float32]


def quadrant(row: int, column: int) -> Floats:
    saliency = np.zeros((SIDE, SIDE), np.float32)
    saliency[row : row + SIDE // 2, column : column + SIDE // 2] = 1
    return saliency


TRUE, OPPOSITE = quadrant(0, 0), quadrant(16, 16)
ALL = np.ones((SIDE, SIDE), bool)
IMAGE = np.ones((4, SIDE, SIDE), np.float32)


def looks_at_one_quadrant(images: Floats) -> Floats:
    found: Floats = images[:, 0, :16, :16].mean(axis=(1, 2))
    return found


def test_a_perfect_map_beats_an_inverted_one_and_chance_lies_between() -> None:
    saliency_maps = {"perfect": TRUE, "inverted": 1 - TRUE, "random": random_saliency(ALL, 0)}
    found = compute_curves(looks_at_one_quadrant, IMAGE, saliency_maps, ALL)
    assert found["perfect"].deletion_auc < found["random"].deletion_auc < found["inverted"].deletion_auc
    assert found["perfect"].insertion_auc > found["random"].insertion_auc > found["inverted"].insertion_auc


def test_the_perfect_map_deletes_the_answer_with_its_quarter() -> None:
    """The answer falls from 1 to 0 over the first quarter of the picture: the area is 1/8."""
    curves = compute_curves(looks_at_one_quadrant, IMAGE, {"perfect": TRUE}, ALL)["perfect"]
    assert curves.deletion_auc == pytest.approx(1 / 8, abs=2e-3)
    assert curves.insertion_auc == pytest.approx(7 / 8, abs=2e-3)
    assert curves.shares[0] == 0
    assert curves.shares[-1] == 1
    assert len(curves.shares) == len(curves.deletion) == len(curves.insertion) == STEPS + 1
    assert not np.diff(curves.deletion).max() > 0
    assert not np.diff(curves.insertion).min() < 0


def test_both_ways_share_the_whole_and_the_empty_picture() -> None:
    asked: list[int] = []

    def count(images: Floats) -> Floats:
        asked.append(len(images))
        return looks_at_one_quadrant(images)

    found = compute_curves(count, IMAGE, {"one": TRUE, "two": OPPOSITE}, ALL)
    assert asked == [2 + 2 * 2 * (STEPS - 1)]
    for curves in found.values():
        assert (curves.deletion[0], curves.deletion[-1]) == (1, 0)
        assert (curves.insertion[0], curves.insertion[-1]) == (0, 1)


def test_heat_outside_the_brain_deletes_nothing_first() -> None:
    inside = ALL.copy()
    inside[16:] = False
    saliency_maps = {"distracted": TRUE + 5 * OPPOSITE, "perfect": TRUE}
    found = compute_curves(looks_at_one_quadrant, IMAGE * inside, saliency_maps, inside)
    assert np.array_equal(found["distracted"].deletion, found["perfect"].deletion)


def test_equal_heat_is_deleted_in_no_order() -> None:
    """Row by row would delete the upper half, where the answer is, first."""
    curves = compute_curves(looks_at_one_quadrant, IMAGE, {"flat": np.zeros((SIDE, SIDE), np.float32)}, ALL)[
        "flat"
    ]
    assert curves.deletion_auc == pytest.approx(0.5, abs=0.03)


def test_chance_is_inside_the_brain_the_same_each_time_and_another_for_each_picture() -> None:
    inside = TRUE > 0
    blobs = random_saliency(inside, 3)
    assert np.array_equal(blobs, random_saliency(inside, 3))
    assert not np.array_equal(blobs, random_saliency(inside, 4))
    assert not blobs[~inside].any()
    assert (blobs.min(), blobs.max()) == (0, 1)
