from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import bernoulli, norm, rankdata
from sklearn.calibration import _sigmoid_calibration, calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from slicewise.config.schema import Evaluation
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.evaluate import evaluate_slices
from slicewise.inference import calibration

Floats = NDArray[np.float64]


def overconfident(seed: int, factor: float, number: int = 4000) -> tuple[Floats, Floats]:
    """Return labels and probabilities whose logits are `factor` times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, number)
    labels = (rng.random(number) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    return labels, (1 / (1 + np.exp(-factor * logits))).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_finds_what_the_logits_were_multiplied_with(factor: float) -> None:
    labels, scores = overconfident(0, factor)
    scaling = calibration.fit_scaling(labels, scores, shifted=False)
    assert scaling.temperature == pytest.approx(factor, rel=0.08)
    assert scaling.shift == 0
    beside = [calibration.Scaling(scaling.temperature * step) for step in (0.9, 1, 1.1)]
    losses = [log_loss(labels, scaled(scores)) for scaled in beside]
    assert losses[1] == min(losses)
    assert np.array_equal(rankdata(scaling(scores)), rankdata(scores))


def test_a_shift_mends_what_leans_to_one_side() -> None:
    labels, fair = overconfident(4, 1.0)
    scores = calibration.Scaling(0.5, 1.5)(fair)  # logits twice as large, and all towards tumour
    cold, platt = (calibration.fit_scaling(labels, scores, shifted=shifted) for shifted in (False, True))
    errors = [calibration.expected_calibration_error(labels, its(scores), 15) for its in (cold, platt)]
    assert platt.temperature == pytest.approx(2, rel=0.08)
    assert platt.shift == pytest.approx(-0.75, abs=0.1)
    assert errors[1] < 0.3 * errors[0]
    assert np.array_equal(rankdata(platt(scores)), rankdata(scores))


def test_of_many_slices_the_scaling_is_that_of_scikit_learn() -> None:
    labels, scores = overconfident(5, 3.0, 20000)
    logits = calibration.to_logits(calibration.Scaling(1.0, -1.0)(scores))
    slope, intercept = _sigmoid_calibration(logits, labels)
    ours = calibration.fit_scaling(labels, 1 / (1 + np.exp(-logits)), shifted=True)
    assert ours.temperature == pytest.approx(-1 / slope, rel=2e-2)
    assert ours.shift == pytest.approx(-intercept, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("number", [4, 12, 40])
def test_of_few_slices_the_scaling_is_the_mode_of_the_posterior(number: int) -> None:
    """Beside the best of a grid, by densities of scipy.stats."""
    labels, scores = overconfident(6, 3.0, number)
    labels[:2] = 0, 1
    ours = calibration.fit_scaling(labels, scores, shifted=True)
    slopes, shifts = np.meshgrid(np.linspace(0.05, 2, 196), np.linspace(-3, 3, 301), indexing="ij")
    scaled = slopes[..., None] * calibration.to_logits(scores) + shifts[..., None]
    likelihood = bernoulli.logpmf(labels.astype(int), expit(scaled)).sum(-1)
    posterior = likelihood + norm.logpdf(np.log(slopes), 0, 0.2) + norm.logpdf(shifts, 0, 1)
    best = np.unravel_index(posterior.argmax(), posterior.shape)
    assert 1 / ours.temperature == pytest.approx(slopes[best], abs=0.011)
    assert ours.shift == pytest.approx(shifts[best], abs=0.021)


@pytest.mark.parametrize("factor", [1 / 3, 1 / 2, 2.0, 3.0])
def test_some_hundred_slices_outweigh_the_prior(factor: float) -> None:
    """Whether a network is too sure or not sure enough; over ten draws, since each has its luck."""
    slopes = []
    for seed in range(10):
        labels, scores = overconfident(seed, factor, 400)
        slopes.append(1 / calibration.fit_scaling(labels, scores, shifted=True).temperature)
    assert np.log(np.mean(slopes) * factor) == pytest.approx(0, abs=0.25 * abs(np.log(factor)))


def test_few_slices_do_not_make_what_was_fair_worse() -> None:
    """Fitted on 36 slices, over many draws: the likelihood alone loses what the prior keeps."""
    losses = []
    for seed in range(40):
        labels, scores = overconfident(seed, 1.0, 2036)
        ours = calibration.fit_scaling(labels[:36], scores[:36], shifted=True)
        slope, intercept = _sigmoid_calibration(calibration.to_logits(scores[:36]), labels[:36])
        platt = calibration.Scaling(-1 / slope, -intercept)
        all_three = (calibration.Scaling(), ours, platt)
        losses.append([log_loss(labels[36:], its(scores[36:])) for its in all_three])
    fair, prior, likelihood = np.mean(losses, axis=0)
    assert fair < prior < fair + 0.5 * (likelihood - fair)


def test_figures_agree_with_scikit_learn() -> None:
    labels, scores = overconfident(1, 2.0, 300)
    assert calibration.brier_score(labels, scores) == pytest.approx(brier_score_loss(labels, scores))
    assert calibration.negative_log_likelihood(labels, scores) == pytest.approx(log_loss(labels, scores))


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_calibration_error_agrees_with_scikit_learn(bins: int) -> None:
    labels, scores = overconfident(2, 2.0, 500)
    share, probability = calibration_curve(labels, scores, n_bins=bins)
    counts, _ = np.histogram(scores, bins, (0, 1))
    expected = np.average(np.abs(share - probability), weights=counts[counts > 0])
    assert calibration.expected_calibration_error(labels, scores, bins) == pytest.approx(expected)


def test_calibration_lowers_the_error_of_what_was_overconfident() -> None:
    labels, scores = overconfident(3, 3.0)
    after = calibration.fit_scaling(labels, scores, shifted=True)(scores)
    errors = [calibration.expected_calibration_error(labels, values, 15) for values in (scores, after)]
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("shifted", [False, True])
def test_a_few_slices_told_apart_do_not_make_every_answer_certain(shifted: bool) -> None:
    labels = np.array([0.0] * 6 + [1.0] * 6)
    scores = np.where(labels == 1, 0.8, 0.2)
    after = calibration.fit_scaling(labels, scores, shifted=shifted)(scores)
    assert 0.8 < after[-1] < 0.9


def test_certain_answers_stay_finite() -> None:
    scores = np.array([0.0, 1.0, 0.5])
    assert np.isfinite(calibration.to_logits(scores)).all()
    assert calibration.Scaling(2.0)(scores)[2] == pytest.approx(0.5)
    assert np.array_equal(calibration.Scaling()(scores), scores)
    assert calibration.expected_calibration_error([0, 1, 1], scores, 15) == pytest.approx(0.5 / 3)


def test_the_reliability_table_counts_every_slice_once() -> None:
    table = calibration.reliability_curve([0, 1, 1, 0], [0.0, 1.0, 0.55, 0.5], 2)
    assert table.counts.tolist() == [1, 3]
    assert table.share.tolist() == [0, pytest.approx(2 / 3)]
    assert np.isnan(calibration.reliability_curve([1], [1.0], 3).share[:2]).all()


def test_what_few_slices_show_by_chance_is_what_right_probabilities_show() -> None:
    rng = np.random.default_rng(3)
    for size in (40, 4000):
        scores = rng.uniform(size=size)
        errors = [
            calibration.expected_calibration_error(rng.uniform(size=size) < scores, scores, 15)
            for _ in range(300)
        ]
        assert calibration.calibration_error_by_chance(scores, 15) == pytest.approx(np.mean(errors), rel=0.05)


def test_certain_answers_leave_nothing_to_chance() -> None:
    assert calibration.calibration_error_by_chance([0.0, 1.0, 1.0], 15) == 0


def test_slices_that_nobody_asked_about_have_no_part_in_the_figures(
    cohorts: Callable[..., list[CaseOutput]], settings: Evaluation
) -> None:
    cases = [replace(case, included=np.arange(len(case.keys)) > 0) for case in cohorts(num_pictures=0)]
    rows = evaluate_slices(cases, settings, seed=0).slices
    asked = [row for row in rows if row.asked]
    assert len(asked) == len(rows) - len(cases)
    figures = calibration.calibration_metrics(rows, 10)
    assert figures == calibration.calibration_metrics(asked, 10) != {}
    assert figures["brier"] != calibration.brier_score(
        [row.label for row in rows], [row.probability for row in rows]
    )
    assert calibration.calibration_metrics([row for row in rows if not row.asked], 10) == {}
