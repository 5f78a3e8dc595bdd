"""Two answers for the same patients: the mean difference, its interval and a paired test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slicewise.domain.tables import Estimate
from slicewise.evaluation.statistics.bootstrap import (
    BootstrapSettings,
    Floats,
    estimate,
    index_groups,
    mean_statistic,
)

MIN_PAIRS = 6
"""With five pairs even a difference of one sign in all of them has p = 0.0625: no test is worth its name."""


@dataclass(frozen=True)
class Difference:
    """The mean of one minus other over patients; `p_value` is None with fewer than six pairs that differ."""

    estimate: Estimate
    p_value: float | None


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    groups: Sequence[tuple[str, str]],
    bootstrap: BootstrapSettings,
) -> Difference:
    """Compare the values of the same rows, in the same order; `groups` names the patient of each row.

    The interval resamples patients and keeps the pairs. The test is Wilcoxon's signed-rank test (1945), two
    sided, on one difference per patient; pairs without a difference are left out, as he did.

    Raises:
        ValueError: the lengths differ.
    """
    if not len(first) == len(second) == len(groups):
        raise ValueError(f"{len(first)} and {len(second)} values of {len(groups)} rows are no pairs")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    names, owner = index_groups(groups)
    mean_difference = estimate(mean_statistic(differences, owner), len(names), bootstrap)
    if not names:
        return Difference(mean_difference, None)
    return Difference(mean_difference, _wilcoxon(np.bincount(owner, differences) / np.bincount(owner)))


def _wilcoxon(differences: Floats) -> float | None:
    changed = differences[differences != 0]
    if len(changed) < MIN_PAIRS:
        return None
    from scipy.stats import wilcoxon

    return float(wilcoxon(changed).pvalue)
