from collections.abc import Iterable

import numpy as np
import pytest

from slicewise.evaluation.statistics import (
    MIN_PATIENTS,
    BootstrapSettings,
    Statistic,
    estimate,
    expanded_tail,
    index_groups,
    mean_statistic,
)
from slicewise.metrics.confusion import roc_auc

HOW = BootstrapSettings(samples=400, confidence=0.95, seed=1)


def mean_of(values: Iterable[float]) -> Statistic:
    """The mean of one value per patient."""
    column = np.asarray(list(values))
    return mean_statistic(column, np.arange(len(column)))


@pytest.mark.parametrize(
    ("num_patients", "least"), [(MIN_PATIENTS, 0.84), (5, 0.90), (7, 0.91), (20, 0.92), (40, 0.92)]
)
def test_the_interval_covers_the_truth_about_as_often_as_it_says(num_patients: int, least: float) -> None:
    """Few patients, too: plain percentile intervals cover 0.80 of the time with four, 0.85 with seven."""
    rng = np.random.default_rng(0)
    bootstrap = BootstrapSettings(samples=2000, confidence=0.95, seed=0)
    covered = 0
    for _ in range(400):
        found = estimate(mean_of(rng.normal(0.7, 0.1, num_patients)), num_patients, bootstrap)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.7 <= found.high
    assert least <= covered / 400 <= 0.98


def test_of_many_patients_the_tails_are_those_of_the_plain_interval() -> None:
    """Hesterberg 2015: the tails follow Student's t, and shrink most where there are fewest."""
    assert expanded_tail(0.95, 100_000) == pytest.approx(0.025, abs=1e-4)
    tails = [expanded_tail(0.95, number) for number in (4, 7, 20, 100)]
    assert tails == sorted(tails)
    assert tails[-1] < 0.025


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
    found = mean_statistic(values, owner)(weights)
    assert found == pytest.approx([np.mean(values), np.mean([0.1, 0.5, 0.1, 0.5, 0.4])])


def test_the_same_seed_gives_the_same_interval_and_chunks_do_not_matter() -> None:
    statistic = mean_of(np.linspace(0, 1, 9))
    assert estimate(statistic, 9, HOW) == estimate(statistic, 9, HOW)
    assert estimate(statistic, 9, HOW) == estimate(statistic, 9, HOW, width=1 << 20)
    other = BootstrapSettings(samples=400, confidence=0.95, seed=2)
    assert estimate(statistic, 9, HOW) != estimate(statistic, 9, other)


@pytest.mark.parametrize("num_patients", range(1, MIN_PATIENTS))
def test_too_few_patients_have_a_value_and_no_interval(num_patients: int) -> None:
    found = estimate(mean_of([0.8] * num_patients), num_patients, HOW)
    assert found.value == pytest.approx(0.8)
    assert (found.low, found.high, found.num_patients) == (None, None, num_patients)
    assert "fewer than 4 patients" in found.note
    assert found.to_json()["interval"] is None


def test_a_class_that_one_patient_holds_alone_has_no_interval() -> None:
    """Every resample with this patient would say the same: an interval of no width."""
    labels, answers = [0, *[1] * 9], [0.2, *[0.9] * 9]
    found = estimate(lambda weights: roc_auc(labels, answers, weights), 10, HOW)
    assert (found.value, found.low) == (1.0, None)
    assert "too few patients" in found.note


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
    assert "too few patients" in found.note


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    statistic = mean_of(np.random.default_rng(2).random(20))
    narrow = estimate(statistic, 20, BootstrapSettings(500, 0.5, 0))
    wide = estimate(statistic, 20, BootstrapSettings(500, 0.99, 0))
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low


def test_rows_find_their_patient() -> None:
    names, owner = index_groups([("b", "1"), ("a", "2"), ("b", "1")])
    assert names == [("a", "2"), ("b", "1")]
    assert owner.tolist() == [1, 0, 1]
