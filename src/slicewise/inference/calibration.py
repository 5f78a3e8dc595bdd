"""Calibration of probabilities: scaling of logits, calibration errors, the reliability curve."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.domain.tables import SliceRow

Floats = NDArray[np.float64]

NOT_CALIBRATED: Final = "probabilities are raw, not calibrated"

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0
_MAX_SHIFT = 20.0
_SLOPE_SPREAD, _SHIFT_SPREAD = 0.2, 1.0
"""Standard deviations of the prior of log slope and shift around 0"""
_DRAWS = 500
_LOWEST, _HIGHEST = float(np.finfo(np.float32).tiny), 1 - 2.0**-25
"""Models predict in fp32: 0 and 1 become the numbers next to them, all other probabilities stay"""


class Scaling(NamedTuple):
    """Division of a logit by `temperature`, then addition of `shift`; (1, 0) is the identity.

    Probabilities are [slice] of tumour, or [slice, class] of classes that exclude each other: these have no
    shift.
    """

    temperature: float = 1.0
    shift: float = 0.0

    def __call__(self, probabilities: ArrayLike) -> Floats:
        """Return the scaled probabilities; their order stays."""
        values = np.asarray(probabilities, dtype=np.float64)
        if self == (1.0, 0.0):
            return values
        if values.ndim > 1:
            powers = np.exp(_log(values) / self.temperature)
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))
        return 1 / (1 + np.exp(-(to_logits(probabilities) / self.temperature + self.shift)))

    def undo(self, probabilities: ArrayLike) -> Floats:
        """Return the raw probabilities of scaled ones."""
        return Scaling(1 / self.temperature, -self.shift * self.temperature)(probabilities)


def fit_scaling(labels: ArrayLike, probabilities: ArrayLike, *, shifted: bool) -> Scaling:
    """Return the most probable scaling: a line through the logits, as `temperature` and `shift`.

    With a shift that is Platt's (1999), without one the temperature of Guo et al. (2017). Both maximise the
    likelihood, which three dozen slices hardly determine: where all are classified correctly, it makes every
    probability certain, and where a few are gravely wrong, it makes all of them uncertain. So log slope and
    shift have a normal prior around the identity, which some hundred slices outweigh.

    Labels are 0 and 1, both present; a shift (`shifted`) corrects a bias towards one class. Probabilities
    [slice, class] have numbers of classes as labels, and no shift.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    if np.ndim(probabilities) > 1:
        return _fit_temperature(labels, probabilities)
    tumour, logits = np.asarray(labels, dtype=np.bool_), to_logits(probabilities)
    spread = np.array([_SLOPE_SPREAD, _SHIFT_SPREAD])

    def loss(line: Floats) -> tuple[float, Floats]:
        """Return the negative log-posterior of log slope and shift, and its gradient."""
        slope, deviation = np.exp(line[0]), line / spread
        scaled = slope * logits + line[1]
        excess = expit(scaled) - tumour
        gradient = np.array([np.sum(excess * logits) * slope, np.sum(excess)]) + deviation / spread
        value = np.sum(np.logaddexp(0.0, scaled) - tumour * scaled) + np.sum(deviation**2) / 2
        return float(value), gradient

    max_shift = _MAX_SHIFT if shifted else 0.0
    bounds = [(-np.log(_MAX_TEMPERATURE), -np.log(_MIN_TEMPERATURE)), (-max_shift, max_shift)]
    log_slope, shift = minimize(loss, [0.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-10).x
    return Scaling(float(np.exp(-log_slope)), float(shift))


def _fit_temperature(labels: ArrayLike, probabilities: ArrayLike) -> Scaling:
    from scipy.optimize import minimize_scalar

    def loss(log_slope: float) -> float:
        scaled = Scaling(float(np.exp(-log_slope)))(probabilities)
        return float((log_slope / _SLOPE_SPREAD) ** 2 / 2 - log_likelihood(labels, scaled).sum())

    bounds = (-np.log(_MAX_TEMPERATURE), -np.log(_MIN_TEMPERATURE))
    return Scaling(float(np.exp(-minimize_scalar(loss, bounds=bounds, method="bounded").x)))


def _log(probabilities: ArrayLike) -> Floats:
    return np.asarray(np.log(np.clip(np.asarray(probabilities, np.float64), _LOWEST, 1.0)))


def to_logits(probabilities: ArrayLike) -> Floats:
    """Return log(p / (1 - p)), finite."""
    values = np.clip(np.asarray(probabilities, dtype=np.float64), _LOWEST, _HIGHEST)
    return np.asarray(np.log(values) - np.log1p(-values))


def log_likelihood(labels: ArrayLike, probabilities: ArrayLike) -> Floats:
    """Return the log-likelihood [slice] of each slice in nats; probabilities as for `Scaling`."""
    if np.ndim(probabilities) > 1:
        return _log(probabilities)[_true_classes(labels)]
    logits = to_logits(probabilities)
    return np.asarray(np.asarray(labels) * logits - np.logaddexp(0.0, logits))


def negative_log_likelihood(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats."""
    return float(-log_likelihood(labels, probabilities).mean())


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean squared distance of probability and label (Brier 1950), of [slice, class] their sum."""
    if np.ndim(probabilities) > 1:
        distance = np.array(probabilities, np.float64)
        distance[_true_classes(labels)] -= 1
        return float((distance**2).sum(axis=1).mean())
    return float(np.mean((np.asarray(probabilities, np.float64) - np.asarray(labels)) ** 2))


def _true_classes(labels: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the index of the true class of each slice in probabilities [slice, class]."""
    numbers = np.asarray(labels).astype(np.intp)
    return np.arange(len(numbers)), numbers


def confidence(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Floats]:
    """Return what calibration compares, [slice]: whether an event happened, and its probability.

    The event is a tumour, or with probabilities [slice, class] that the most probable class is right (Guo et
    al. 2017).
    """
    values, truth = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    if values.ndim == 1:
        return truth, values
    return np.asarray(values.argmax(axis=1) == truth, np.float64), values.max(axis=1)


class ReliabilityCurve(NamedTuple):
    """Bins of equal width over 0..1: slices in each, their mean probability and their share of tumour.

    Mean and share are NaN in an empty bin.
    """

    counts: NDArray[np.int64]
    probability: Floats
    share: Floats


def reliability_curve(labels: ArrayLike, probabilities: ArrayLike, bins: int) -> ReliabilityCurve:
    """Return the bins of a reliability diagram; a bin includes its left border, the last one also 1."""
    truth, values = confidence(labels, probabilities)
    index = np.minimum((values * bins).astype(np.intp), bins - 1)
    counts = np.bincount(index, minlength=bins)
    filled = np.where(counts, counts, np.nan)
    probability, share = (np.bincount(index, column, minlength=bins) / filled for column in (values, truth))
    return ReliabilityCurve(counts, probability, share)


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int) -> float:
    """Return the mean gap of probability and share of tumour over the bins, weighted by their slices.

    Naeini et al. 2015, on the probability of tumour, or of the predicted one of several classes, with bins of
    equal width.
    """
    curve = reliability_curve(labels, probabilities, bins)
    gaps = np.where(curve.counts > 0, np.abs(curve.probability - curve.share), 0.0)
    return float((gaps * curve.counts).sum() / curve.counts.sum())


def calibration_error_by_chance(probabilities: ArrayLike, bins: int) -> float:
    """Return the expected calibration error of probabilities that are exactly right.

    The mean over labels drawn from the probabilities themselves (Broecker and Smith 2007): with few slices
    in a bin their share of tumour differs from the mean probability by luck, and no calibration removes it.
    Slices are drawn independently; those of one patient are not, so the true value is larger for volumes.
    """
    values = confidence(np.zeros(len(np.asarray(probabilities))), probabilities)[1]
    rng = np.random.default_rng(0)
    errors = [
        expected_calibration_error(rng.random(values.size) < values, values, bins) for _ in range(_DRAWS)
    ]
    return float(np.mean(errors))


def calibration_metrics(rows: Iterable[SliceRow], bins: int) -> dict[str, float]:
    """Return both calibration errors, their number of bins, and the Brier score.

    Excluded slices do not count, as in the calibration; without included ones the result is empty.
    """
    included = [row for row in rows if row.asked]
    if not included:
        return {}
    labels = [row.label for row in included]
    scores = [row.class_probabilities or row.probability for row in included]
    return {
        "ece": expected_calibration_error(labels, scores, bins),
        "ece_by_chance": calibration_error_by_chance(scores, bins),
        "ece_bins": bins,
        "brier": brier_score(labels, scores),
    }
