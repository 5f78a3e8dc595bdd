"""The gain of a selection on validation groups that it was not made on.

The selection is made on four fifths of the groups (patients, or families of pictures) and scored on the last
fifth, until every group was held out (cross-validation, Stone 1974), five times with other fifths. Its gain
over the configured default is then resampled over groups.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.tables import Estimate
from slicewise.evaluation.statistics.bootstrap import Floats

Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]
Selector = Callable[[Bools], Floats]
"""Rows that the selection is made on [row] -> value of every row under it [row]."""

FOLDS: Final = 5
REPEATS: Final = 5


def held_out_values(owner: Indices, strata: Indices, choose: Selector) -> Floats:
    """Return the mean value [row] of each row under selections made without its group.

    Args:
        owner: [row] index of its group.
        strata: [group] groups of one stratum are spread evenly over the folds.
        choose: selects on the rows given, and returns the value of every row.
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
    """The gain of a selection over the default on held-out groups.

    Attributes:
        measure: name of the score; more is better.
        estimate: mean gain and its interval over resamples of groups.
        confidence: of the interval.
    """

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
