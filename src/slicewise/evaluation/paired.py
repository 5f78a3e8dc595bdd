"""Two answers for the same patients: the mean difference, its interval and a paired test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slicewise.evaluation.bootstrap import Estimate, Floats, Resampling, estimate, group_rows, mean_of_rows

FEWEST = 6
"""With five pairs even a difference of one sign in all of them has p = 0.0625: no test is worth its name."""


@dataclass(frozen=True)
class Difference:
    """The mean of one minus other over patients; `p_value` is None with fewer than six pairs that differ."""

    estimate: Estimate
    p_value: float | None


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], groups: Sequence[tuple[str, str]], how: Resampling
) -> Difference:
    """Compare the values of the same rows, in the same order; `groups` names the patient of each row.

    The interval resamples patients and keeps the pairs. The test is Wilcoxon's signed-rank test (1945), two
    sided, on one difference per patient; pairs without a difference are left out, as he did.

    Raises:
        ValueError: the lengths differ.
    """
    if not len(ours) == len(theirs) == len(groups):
        raise ValueError(f"{len(ours)} and {len(theirs)} values of {len(groups)} rows are no pairs")
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    names, owner = group_rows(groups)
    found = estimate(mean_of_rows(differences, owner), len(names), how)
    if not names:
        return Difference(found, None)
    return Difference(found, _wilcoxon(np.bincount(owner, differences) / np.bincount(owner)))


def _wilcoxon(differences: Floats) -> float | None:
    changed = differences[differences != 0]
    if len(changed) < FEWEST:
        return None
    from scipy.stats import wilcoxon

    return float(wilcoxon(changed).pvalue)
