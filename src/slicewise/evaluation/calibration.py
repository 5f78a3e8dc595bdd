"""Do probabilities mean what they say? Temperature, errors of calibration, and the reliability table."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_COLDEST, _HOTTEST = 0.05, 20.0
_LOWEST, _HIGHEST = float(np.finfo(np.float32).tiny), 1 - 2.0**-25
"""The network answers in fp32: 0 and 1 become the last numbers before them, and every other answer stays."""


def fit_temperature(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the temperature with the least negative log-likelihood (Guo et al. 2017), 1 being no change.

    The labels are taken as Platt (1999) did, short of 0 and 1 the more, the fewer there are: where a few
    slices are all told apart, the likelihood alone would make every answer certain.

    Args:
        labels: [slice] 0 or 1, both classes.
        probabilities: [slice] as the network gave them.
    """
    from scipy.optimize import minimize_scalar

    tumour, logits = np.asarray(labels, dtype=np.bool_), to_logits(probabilities)
    num_tumour = np.count_nonzero(tumour)
    truth = np.where(tumour, (num_tumour + 1) / (num_tumour + 2), 1 / (tumour.size - num_tumour + 2))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0.0, scaled) - truth * scaled))

    bounds = (np.log(_COLDEST), np.log(_HOTTEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))


def temper(probabilities: ArrayLike, temperature: float) -> Floats:
    """Return the probabilities at a temperature; their order stays, and 1 changes nothing."""
    if temperature == 1.0:
        return np.asarray(probabilities, dtype=np.float64)
    return 1 / (1 + np.exp(-to_logits(probabilities) / temperature))


def to_logits(probabilities: ArrayLike) -> Floats:
    """Return log(p / (1 - p)), finite."""
    values = np.clip(np.asarray(probabilities, dtype=np.float64), _LOWEST, _HIGHEST)
    return np.asarray(np.log(values) - np.log1p(-values))


def negative_log_likelihood(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats."""
    logits = to_logits(probabilities)
    return float(np.mean(np.logaddexp(0.0, logits) - np.asarray(labels) * logits))


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean squared distance of probability and label (Brier 1950)."""
    return float(np.mean((np.asarray(probabilities, np.float64) - np.asarray(labels)) ** 2))


class Reliability(NamedTuple):
    """Bins of equal width over 0..1: slices in each, their mean probability and their share of tumour.

    Mean and share are NaN in an empty bin.
    """

    counts: NDArray[np.int64]
    probability: Floats
    share: Floats


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int) -> Reliability:
    """Return the table behind a reliability diagram; a bin holds its left border, the last one also 1."""
    values, truth = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    place = np.minimum((values * bins).astype(np.intp), bins - 1)
    counts = np.bincount(place, minlength=bins)
    means = (np.bincount(place, column, minlength=bins) for column in (values, truth))
    filled = np.where(counts, counts, np.nan)
    probability, share = (sums / filled for sums in means)
    return Reliability(counts, probability, share)


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int) -> float:
    """Return the mean gap of probability and share of tumour over the bins, weighted by their slices.

    Naeini et al. 2015, on the probability of tumour, with bins of equal width.
    """
    table = reliability(labels, probabilities, bins)
    gaps = np.where(table.counts > 0, np.abs(table.probability - table.share), 0.0)
    return float((gaps * table.counts).sum() / table.counts.sum())
