from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from slicewise.config.schema import Evaluation
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.evaluate import score_case
from slicewise.inference.calibration import Scaling
from slicewise.inference.postprocess import (
    Postprocessing,
    component_sizes,
    remove_small_components,
    smooth_slices,
)


@pytest.mark.parametrize("num_slices", [1, 4])
def test_components_and_smoothing_are_those_of_scipy(num_slices: int) -> None:
    rng = np.random.default_rng(num_slices)
    for share in (0.02, 0.2, 0.4, 0.6):
        masks = np.pad(rng.random((num_slices, 30, 20)) < share, ((0, 0), (3, 0), (0, 5)))
        labels, _ = ndimage.label(masks, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(labels.ravel())
        assert component_sizes(masks) == sorted(sizes[1:].tolist(), reverse=True)
        large = (sizes >= 3)[labels] & masks
        np.testing.assert_array_equal(remove_small_components(masks, [*range(num_slices)], 3, 0.0), large)
    values = rng.random((num_slices, 2, 9, 9), np.float32)
    expected = ndimage.gaussian_filter1d(values, 1.3, axis=0, mode="nearest")
    np.testing.assert_array_equal(smooth_slices(values, 1.3), expected)


def test_small_parts_go_and_connected_ones_count_together() -> None:
    masks = np.zeros((3, 6, 6), bool)
    masks[0, 0, 0] = masks[1, 1, 1] = True  # touch by a corner: two voxels
    masks[:, 4, 4] = True  # three voxels
    assert remove_small_components(masks, [0, 1, 2], 2, 0.0).sum() == 5
    assert remove_small_components(masks, [0, 1, 2], 3, 0.0).sum() == 3
    assert remove_small_components(masks, [0, 1, 2], 4, 0.0).sum() == 0
    assert remove_small_components(masks, [0, 1, 2], 0, 1.0).sum() == 3
    assert remove_small_components(masks, [0, 1, 2], 0, 0.7).sum() == 3
    assert remove_small_components(masks, [0, 1, 2], 0, 0.6).sum() == 5
    assert remove_small_components(masks, [0, 1, 2], 0, 0.0) is masks


def test_slices_with_a_dropped_one_between_them_do_not_touch() -> None:
    masks = np.ones((2, 2, 2), bool)
    assert remove_small_components(masks, [3, 4], 8, 0.0).all()
    assert not remove_small_components(masks, [3, 5], 8, 0.0).any()


@pytest.mark.parametrize("seed", range(3))
def test_parts_agree_with_chains_of_neighbours(seed: int) -> None:
    masks = np.random.default_rng(seed).random((5, 8, 8)) < 0.06
    points = np.argwhere(masks)
    near = cdist(points, points, "chebyshev") <= 1
    reach = np.linalg.matrix_power(near.astype(int), len(points)) > 0
    sizes = reach.sum(axis=1)
    for smallest in (2, 3, 5):
        kept = np.argwhere(remove_small_components(masks, list(range(5)), smallest, 0.0))
        assert kept.tolist() == points[sizes >= smallest].tolist()
    largest = np.argwhere(remove_small_components(masks, list(range(5)), 0, 1.0))
    assert len(largest) == sizes.max()


def test_the_gate_empties_slices_that_are_not_called_tumour(case: CaseOutput, settings: Evaluation) -> None:
    plain = replace(
        Postprocessing.configured(settings), class_threshold=float(np.median(case.class_probability))
    )
    rows = score_case(case, settings, plain).rows
    gated = score_case(case, settings, replace(plain, gate=True)).rows
    assert {row.predicted for row in rows} == {0, 1}
    for before, after in zip(rows, gated, strict=True):
        assert after.predicted_pixels == before.predicted * before.predicted_pixels


def test_the_scaling_changes_probabilities_before_the_threshold_decides(
    case: CaseOutput, settings: Evaluation
) -> None:
    hot = replace(Postprocessing.configured(settings), scaling=Scaling(4.0, 0.5), class_threshold=0.6)
    for row, raw in zip(score_case(case, settings, hot).rows, case.class_probability, strict=True):
        expected = 1 / (1 + (1 / raw - 1) ** 0.25 * np.exp(-0.5))
        assert row.probability == pytest.approx(expected, rel=1e-4)
        assert row.predicted == (expected >= 0.6)


def test_the_smallest_component_can_be_configured(settings: Evaluation) -> None:
    masks = np.zeros((3, 1, 8, 8), np.float32)
    masks[0, 0, :2, :2], masks[2, 0, 5, 5] = 1, 1
    configured = Postprocessing.configured(settings.model_copy(update={"min_component": 3}))
    kept = configured.masks(masks, np.ones(3, np.float32), [0, 1, 2])
    assert kept.sum() == 4


def test_a_decision_reads_as_a_sentence() -> None:
    plain = Postprocessing(Scaling(), 0.5, 0.5)
    assert plain.describe() == "class from 0.5, mask from 0.5, probabilities are raw, not calibrated"
    assert plain.describe([SEGMENTATION]) == "mask from 0.5"
    assert plain.describe([CLASSIFICATION]) == "class from 0.5, probabilities are raw, not calibrated"
    full = Postprocessing(Scaling(1.5, -0.25), 0.4, 0.3, 20, 0.3, gate=True)
    assert "temperature 1.5, logits moved by -0.25, parts from 20 voxels, parts from 30%" in full.describe()
    assert Postprocessing.from_json(full.to_json()) == full


@pytest.mark.parametrize("threshold", [0.0, 0.03, 0.5, 0.9, 1.0])
def test_the_band_of_uncertain_probabilities_is_as_wide_in_log_odds_at_every_threshold(
    settings: Evaluation, threshold: float
) -> None:
    post = replace(Postprocessing.configured(settings), class_threshold=threshold, uncertain_band=0.1)
    assert post.uncertain_interval is not None
    low, high = post.uncertain_interval
    if threshold in (0, 1):
        assert low == high == threshold
    else:
        widths = np.diff([np.log(p / (1 - p)) for p in (low, threshold, high)])
        np.testing.assert_allclose(widths, np.log(0.6 / 0.4))
    inside = post.is_uncertain([low, np.nextafter(low, 1), threshold, np.nextafter(high, 0), high])
    assert inside.tolist() == [False, *[low < high] * 3, False]
    assert not replace(post, uncertain_band=0.0).is_uncertain(np.linspace(0, 1, 1001)).any()


def test_of_several_classes_the_two_most_probable_ones_decide(settings: Evaluation) -> None:
    post = replace(Postprocessing.configured(settings), class_threshold=None, uncertain_band=0.1)
    shares = [[0.45, 0.35, 0.20], [0.60, 0.35, 0.05], [0.34, 0.33, 0.33], [0.0, 0.0, 0.0]]
    assert post.is_uncertain(shares).tolist() == [True, False, True, False]
    assert not replace(post, uncertain_band=0.0).is_uncertain(shares).any()
    assert post.uncertain_interval is None


@pytest.mark.parametrize("seed", range(3))
def test_sizes_of_components_are_sorted_and_sum_to_the_mask(seed: int) -> None:
    masks = np.random.default_rng(seed).random((5, 8, 8)) < 0.06
    sizes = component_sizes(masks)
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == masks.sum()
    for smallest in (2, 3):
        kept = remove_small_components(masks, list(range(5)), smallest, 0.0).sum()
        assert kept == sum(size for size in sizes if size >= smallest)
    assert component_sizes(np.zeros((1, 2, 2), bool)) == []
