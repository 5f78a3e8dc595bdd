"""Paired differences of two models on the same patients: mean difference, interval and paired test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import wilcoxon

from slicewise.domain.tables import Estimate
from slicewise.evaluation.statistics.bootstrap import (
    BootstrapSettings,
    estimate_mean,
    index_groups,
)

MIN_PAIRS: Final = 6
"""With five pairs even a difference of one sign in all of them has p = 0.0625: a test is of no use."""


@dataclass(frozen=True)
class Difference:
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
