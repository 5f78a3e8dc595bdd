"""Intervals, paired differences and gains over patients: slices of one patient are not independent.

Pictures name no patient; a family of near-identical pictures takes the patient's place, as in the split.

Cluster bootstrap (Efron 1979; Field and Welsh 2007) with expanded percentile intervals (Hesterberg 2015,
"What teachers should know about the bootstrap"): plain ones are too narrow for few patients. A resample is a
row of weights, how often each patient was drawn, so a statistic is one matrix product over all resamples.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t, wilcoxon

from slicewise.domain.tables import Estimate

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Weights [resample, patient] -> values [resample], NaN where undefined."""

Name = TypeVar("Name", str, tuple[str, str])

_CHUNK_ELEMENTS = 1 << 22
_USABLE = 0.95
"""Share of the resamples that must have a value; with less, one or two patients hold all of a class."""
MIN_PATIENTS: Final = 4
"""The true mean lies between the smallest and the largest of four normal values in 7 of 8 samples, of three
in 3 of 4: resampling so few cannot give an interval of 95 %."""
MIN_PAIRS: Final = 6
"""With five pairs even a difference of one sign in all of them has p = 0.0625: a test is of no use."""
Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]
Selector = Callable[[Bools], Floats]
"""Rows that the selection is made on [row] -> value of every row under it [row]."""
FOLDS: Final = 5
REPEATS: Final = 5


@dataclass(frozen=True)
class BootstrapSettings:
    """Number of resamples, coverage of the interval and seed of the draws."""

    samples: int
    confidence: float
    seed: int


def estimate(
    statistic: Statistic, num_patients: int, bootstrap: BootstrapSettings, *, width: int = 1
) -> Estimate:
    """Return the statistic over all patients with its bootstrap interval.

    Args:
        statistic: values [resample] from weights [resample, patient].
        num_patients: number of patients; with fewer than `MIN_PATIENTS` there is no interval.
        bootstrap: number of resamples, coverage and seed; the same seed draws the same patients.
        width: elements a statistic touches per resample, so that memory stays bounded.
    """
    if num_patients == 0:
        return Estimate(None, None, None, 0, "no patients")
    value = float(statistic(np.ones((1, num_patients)))[0])
    if not math.isfinite(value):
        return Estimate(None, None, None, num_patients, "undefined: only one class is present")
    if num_patients < MIN_PATIENTS:
        note = f"no interval: fewer than {MIN_PATIENTS} patients or families of pictures"
        return Estimate(value, None, None, num_patients, note)
    rng = np.random.default_rng([bootstrap.seed, num_patients])
    chunk = max(1, _CHUNK_ELEMENTS // max(width, num_patients))
    sizes = [min(chunk, bootstrap.samples - start) for start in range(0, bootstrap.samples, chunk)]
    uniform = np.full(num_patients, 1 / num_patients)
    draws = (rng.multinomial(num_patients, uniform, size=size).astype(np.float64) for size in sizes)
    values = np.concatenate([statistic(weights) for weights in draws])
    usable = values[np.isfinite(values)]
    if usable.size < _USABLE * values.size:
        return Estimate(value, None, None, num_patients, "no interval: a class is that of too few patients")
    tail = expanded_tail(bootstrap.confidence, num_patients)
    low, high = np.quantile(usable, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), num_patients)


def estimate_mean(values: Iterable[float], groups: Iterable[Name], bootstrap: BootstrapSettings) -> Estimate:
    """Return the mean of `values` [row] with its interval over the groups [row]."""
    names, owner = index_groups(groups)
    return estimate(mean_statistic(values, owner), len(names), bootstrap)


def estimate_over_rows(
    statistic: Statistic, groups: Iterable[Name], bootstrap: BootstrapSettings
) -> Estimate:
    """Return a statistic of row weights [resample, row] with its interval over the groups [row].

    A patient drawn twice counts each of its rows twice.
    """
    names, owner = index_groups(groups)
    return estimate(lambda weights: statistic(weights[:, owner]), len(names), bootstrap, width=len(owner))


def expanded_tail(confidence: float, num_patients: int) -> float:
    """Return the share of the resamples beyond each end of the interval (Hesterberg 2015, section 5.3).

    Resamples of n patients underestimate the spread by sqrt((n - 1) / n) and ignore how uncertain the spread
    of few patients is; the tails shrink as much as an interval by Student's t is wider.
    """
    quantile = t.ppf((1 + confidence) / 2, num_patients - 1)
    return float(norm.sf(quantile * math.sqrt(num_patients / (num_patients - 1))))


def mean_statistic(values: Iterable[float], owner: NDArray[np.intp]) -> Statistic:
    """Return the mean over rows when each row counts as often as its owner, for `estimate`."""
    column = np.asarray(list(values), dtype=np.float64)
    sums, counts = np.bincount(owner, column), np.bincount(owner)
    return lambda weights: np.asarray((weights @ sums) / (weights @ counts))


def index_groups(patients: Iterable[Name]) -> tuple[list[Name], NDArray[np.intp]]:
    """Return the distinct patients, sorted, and for each row the position of its patient among them."""
    rows = list(patients)
    names = sorted(set(rows))
    position = {name: place for place, name in enumerate(names)}
    return names, np.array([position[name] for name in rows], dtype=np.intp)


class Difference(NamedTuple):
    """Mean of first minus second over patients; `p_value` is None with fewer than six pairs that differ."""

    estimate: Estimate
    p_value: float | None


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    groups: Sequence[tuple[str, str]],
    bootstrap: BootstrapSettings,
) -> Difference:
    """Return the mean of first minus second over the same rows; `groups` names the patient of each row.

    The interval resamples patients and keeps the pairs. The test is Wilcoxon's signed-rank test (1945), two
    sided, on one difference per patient; pairs without a difference are left out.

    Raises:
        ValueError: the lengths differ.
    """
    if not len(first) == len(second) == len(groups):
        raise ValueError(f"{len(first)} and {len(second)} values of {len(groups)} rows are no pairs")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    _, owner = index_groups(groups)
    changed = np.bincount(owner, differences) / np.bincount(owner)
    changed = changed[changed != 0]
    p_value = None if len(changed) < MIN_PAIRS else float(wilcoxon(changed).pvalue)
    return Difference(estimate_mean(differences, groups, bootstrap), p_value)


def held_out_values(owner: Indices, strata: Indices, choose: Selector) -> Floats:
    """Return the mean value [row] of each row under selections made without its group.

    Cross-validation (Stone 1974) over fifths of the groups (patients, or families of pictures), five times.
    `owner` [row] is the index of its group. Groups of one of the `strata` [group] are spread evenly over the
    folds. `choose` selects on the rows given, and returns the value of every row.
    """
    rng = np.random.default_rng(0)
    total = np.zeros(len(owner))
    for _ in range(REPEATS):
        fold_of_group = np.empty(len(strata), np.intp)
        fold_of_group[np.lexsort((rng.random(len(strata)), strata))] = np.arange(len(strata)) % FOLDS
        folds = fold_of_group[owner]
        for fold in np.unique(folds):
            outside = folds == fold
            total[outside] += choose(~outside)[outside]
    return total / REPEATS


@dataclass(frozen=True)
class SelectionGain:
    """The gain in a score (more is better) of a selection over the default on held-out groups."""

    measure: str
    estimate: Estimate
    confidence: float

    @property
    def is_significant(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.estimate.low is not None and self.estimate.low > 0

    def to_json(self) -> dict[str, Any]:
        return {"measure": self.measure, **self.estimate.to_json(), "significant": self.is_significant}

    def describe(self) -> str:
        """Return `balanced accuracy +0.012, 95 % interval -0.020 to +0.041`."""
        estimate = self.estimate
        if estimate.value is None:
            return f"{self.measure}: {estimate.note}"
        if estimate.low is None:
            return f"{self.measure} {estimate.value:+.3f}, {estimate.note}"
        interval = f"{self.confidence:.0%} interval {estimate.low:+.3f} to {estimate.high:+.3f}"
        return f"{self.measure} {estimate.value:+.3f}, {interval.replace('%', ' %')}"
