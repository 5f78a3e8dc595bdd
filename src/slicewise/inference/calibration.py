"""Do probabilities mean what they say? Scaling of logits, errors of calibration, the reliability table."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.domain.tables import SliceRow

Floats = NDArray[np.float64]

NOT_CALIBRATED: Final = "probabilities are raw, not calibrated"

_COLDEST, _HOTTEST = 0.05, 20.0
_FARTHEST = 20.0
_SLOPE_SPREAD, _SHIFT_SPREAD = 0.2, 1.0
"""Of log slope and shift around 0, which is believed of a network before its first validation slice."""
_DRAWS = 500
_LOWEST, _HIGHEST = float(np.finfo(np.float32).tiny), 1 - 2.0**-25
"""The network answers in fp32: 0 and 1 become the last numbers before them, and every other answer stays."""


class Scaling(NamedTuple):
    """What is done to a logit: division by `temperature`, then addition of `shift`; (1, 0): nothing."""

    temperature: float = 1.0
    shift: float = 0.0

    def __call__(self, probabilities: ArrayLike) -> Floats:
        """Return the scaled probabilities; their order stays."""
        if self == (1.0, 0.0):
            return np.asarray(probabilities, dtype=np.float64)
        return 1 / (1 + np.exp(-(to_logits(probabilities) / self.temperature + self.shift)))

    def undo(self, probabilities: ArrayLike) -> Floats:
        """Return the raw probabilities of scaled ones."""
        return Scaling(1 / self.temperature, -self.shift * self.temperature)(probabilities)


def fit_scaling(labels: ArrayLike, probabilities: ArrayLike, *, shifted: bool) -> Scaling:
    """Return the most probable scaling: a line through the logits, as `temperature` and `shift`.

    With a shift that is Platt's (1999), without one the temperature of Guo et al. (2017). Both take the line
    of the greatest likelihood, which three dozen slices hardly determine: where they are all told apart, it
    makes every answer certain, and where a few are gravely wrong, it makes all of them doubtful. So the
    logarithm of the slope and the shift have a normal prior around what changes nothing, which some hundred
    slices outweigh.

    Args:
        labels: [slice] 0 or 1, both classes.
        probabilities: [slice] as the network gave them.
        shifted: whether to fit a shift, too: it mends a network that leans to one side.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    tumour, logits = np.asarray(labels, dtype=np.bool_), to_logits(probabilities)
    spread = np.array([_SLOPE_SPREAD, _SHIFT_SPREAD])

    def loss(line: Floats) -> tuple[float, Floats]:
        """Return the negative log-posterior of log slope and shift, and its gradient."""
        slope, surprise = np.exp(line[0]), line / spread
        scaled = slope * logits + line[1]
        excess = expit(scaled) - tumour
        gradient = np.array([np.sum(excess * logits) * slope, np.sum(excess)]) + surprise / spread
        value = np.sum(np.logaddexp(0.0, scaled) - tumour * scaled) + np.sum(surprise**2) / 2
        return float(value), gradient

    farthest = _FARTHEST if shifted else 0.0
    bounds = [(-np.log(_HOTTEST), -np.log(_COLDEST)), (-farthest, farthest)]
    log_slope, shift = minimize(loss, [0.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-10).x
    return Scaling(float(np.exp(-log_slope)), float(shift))


def to_logits(probabilities: ArrayLike) -> Floats:
    """Return log(p / (1 - p)), finite."""
    values = np.clip(np.asarray(probabilities, dtype=np.float64), _LOWEST, _HIGHEST)
    return np.asarray(np.log(values) - np.log1p(-values))


def log_likelihood(labels: ArrayLike, probabilities: ArrayLike) -> Floats:
    """Return the log-likelihood [slice] of each slice, in nats."""
    logits = to_logits(probabilities)
    return np.asarray(np.asarray(labels) * logits - np.logaddexp(0.0, logits))


def negative_log_likelihood(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats."""
    return float(-log_likelihood(labels, probabilities).mean())


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean squared distance of probability and label (Brier 1950)."""
    return float(np.mean((np.asarray(probabilities, np.float64) - np.asarray(labels)) ** 2))


class ReliabilityCurve(NamedTuple):
    """Bins of equal width over 0..1: slices in each, their mean probability and their share of tumour.

    Mean and share are NaN in an empty bin.
    """

    counts: NDArray[np.int64]
    probability: Floats
    share: Floats


def reliability_curve(labels: ArrayLike, probabilities: ArrayLike, bins: int) -> ReliabilityCurve:
    """Return the table behind a reliability diagram; a bin holds its left border, the last one also 1."""
    values, truth = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    place = np.minimum((values * bins).astype(np.intp), bins - 1)
    counts = np.bincount(place, minlength=bins)
    means = (np.bincount(place, column, minlength=bins) for column in (values, truth))
    filled = np.where(counts, counts, np.nan)
    probability, share = (sums / filled for sums in means)
    return ReliabilityCurve(counts, probability, share)


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int) -> float:
    """Return the mean gap of probability and share of tumour over the bins, weighted by their slices.

    Naeini et al. 2015, on the probability of tumour, with bins of equal width.
    """
    table = reliability_curve(labels, probabilities, bins)
    gaps = np.where(table.counts > 0, np.abs(table.probability - table.share), 0.0)
    return float((gaps * table.counts).sum() / table.counts.sum())


def calibration_error_by_chance(probabilities: ArrayLike, bins: int) -> float:
    """Return the calibration error to expect of probabilities that are exactly right.

    The mean over labels drawn from the probabilities themselves (Broecker and Smith 2007): with few
    slices in a bin their share of tumour differs from the mean probability by luck alone, and no calibration
    removes it.
    Slices are drawn independently; those of one patient are not, so the true figure is larger for volumes.
    """
    values = np.asarray(probabilities, np.float64)
    rng = np.random.default_rng(0)
    errors = [
        expected_calibration_error(rng.random(values.size) < values, values, bins) for _ in range(_DRAWS)
    ]
    return float(np.mean(errors))


def calibration_metrics(rows: Iterable[SliceRow], bins: int) -> dict[str, float]:
    """Return what reports say of probabilities: both errors, in how many bins, and the Brier score.

    Slices that the network was not asked about have no part in them, as they had none in the calibration;
    where it was asked about none, there is nothing to say.
    """
    asked = [row for row in rows if row.asked]
    if not asked:
        return {}
    labels, scores = [row.label for row in asked], [row.probability for row in asked]
    return {
        "ece": expected_calibration_error(labels, scores, bins),
        "ece_by_chance": calibration_error_by_chance(scores, bins),
        "ece_bins": bins,
        "brier": brier_score(labels, scores),
    }
