import numpy as np
import pytest

from slicewise.evaluation.bootstrap import Resampling, estimate, group_rows, mean_of, mean_of_rows
from slicewise.evaluation.metrics import roc_auc

HOW = Resampling(samples=400, confidence=0.95, seed=1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    how = Resampling(samples=300, confidence=0.9, seed=0)
    covered = 0
    for _ in range(300):
        found = estimate(mean_of(rng.normal(0.7, 0.1, 40)), 40, how)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.7 <= found.high
    assert 0.84 <= covered / 300 <= 0.94


def test_slices_of_one_patient_do_not_count_as_independent() -> None:
    """Eight equal slices per patient must not narrow the interval: only patients are drawn."""
    values = np.random.default_rng(1).normal(size=12)
    alone = estimate(mean_of(values), 12, HOW)
    owner = np.repeat(np.arange(12), 8)
    statistic = mean_of(values[owner])
    repeated = estimate(lambda weights: statistic(weights[:, owner]), 12, HOW, width=96)
    assert repeated.low == pytest.approx(alone.low)
    assert repeated.high == pytest.approx(alone.high)


def test_a_mean_over_rows_counts_every_row_of_a_patient_drawn_twice_twice() -> None:
    values, owner = np.array([0.1, 0.5, 0.9, 0.4]), np.array([0, 0, 1, 2])
    weights = np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]])
    found = mean_of_rows(values, owner)(weights)
    assert found == pytest.approx([np.mean(values), np.mean([0.1, 0.5, 0.1, 0.5, 0.4])])


def test_the_same_seed_gives_the_same_interval_and_chunks_do_not_matter() -> None:
    statistic = mean_of(np.linspace(0, 1, 9))
    assert estimate(statistic, 9, HOW) == estimate(statistic, 9, HOW)
    assert estimate(statistic, 9, HOW) == estimate(statistic, 9, HOW, width=1 << 20)
    other = Resampling(samples=400, confidence=0.95, seed=2)
    assert estimate(statistic, 9, HOW) != estimate(statistic, 9, other)


def test_one_patient_has_a_value_and_no_interval() -> None:
    found = estimate(mean_of([0.8]), 1, HOW)
    assert (found.value, found.low, found.high, found.num_patients) == (0.8, None, None, 1)
    assert "one patient" in found.note
    assert found.to_json()["interval"] is None


def test_no_patients_have_neither() -> None:
    assert estimate(mean_of([]), 0, HOW).value is None


def test_an_undefined_figure_is_none_and_never_nan() -> None:
    found = estimate(lambda weights: roc_auc([1, 1, 1], [0.1, 0.5, 0.9], weights), 3, HOW)
    assert found.value is None
    assert "one class" in found.note


def test_an_interval_that_would_rest_on_few_resamples_is_not_given() -> None:
    """A figure that exists only when all four patients are drawn: one resample in eleven."""
    found = estimate(lambda weights: np.where(weights.min(axis=1) > 0, 0.5, np.nan), 4, HOW)
    assert (found.value, found.low, found.high) == (0.5, None, None)
    assert "most resamples" in found.note


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    statistic = mean_of(np.random.default_rng(2).random(20))
    narrow = estimate(statistic, 20, Resampling(500, 0.5, 0))
    wide = estimate(statistic, 20, Resampling(500, 0.99, 0))
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low


def test_rows_find_their_patient() -> None:
    names, owner = group_rows([("b", "1"), ("a", "2"), ("b", "1")])
    assert names == [("a", "2"), ("b", "1")]
    assert owner.tolist() == [1, 0, 1]
