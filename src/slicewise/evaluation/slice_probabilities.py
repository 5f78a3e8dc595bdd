"""Labels and probabilities of the slices of a source; what a selection on some of them gains on others."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.tables import describe_groups
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.statistics import (
    BootstrapSettings,
    Floats,
    Indices,
    SelectionGain,
    Selector,
    estimate,
    estimate_mean,
    held_out_values,
    index_groups,
)


@dataclass(frozen=True)
class SliceProbabilities:
    """Labels, raw probabilities and groups of the validation slices of one source."""

    labels: Floats
    probabilities: Floats
    """[slice] of tumour, or [slice, class] of several classes"""
    groups: tuple[str, ...]
    """Patients, or families of near-identical pictures."""
    is_pictures: bool
    """Whether each slice is a picture of its own."""

    @property
    def population(self) -> str:
        return describe_groups(self.num_groups, pictures=self.is_pictures, subset="validation")

    @cached_property
    def owner(self) -> Indices:
        """[slice] index of its group."""
        return index_groups(self.groups)[1]

    @property
    def num_groups(self) -> int:
        return len(set(self.groups))

    @property
    def has_several(self) -> bool:
        return self.probabilities.ndim > 1

    @property
    def is_classified(self) -> bool:
        """Whether a classification was trained: without one, all probabilities are equal."""
        return bool(np.ptp(self.probabilities) != 0)

    @cached_property
    def classes(self) -> NDArray[np.bool_]:
        """[group, class]: whether the group has a slice of the class: without tumour, and with."""
        num_classes = self.probabilities.shape[1] if self.has_several else 2
        result = np.zeros((self.num_groups, num_classes), np.bool_)
        result[self.owner, self.labels.astype(np.intp)] = True
        return result

    def mean_gain(self, measure: str, gains: Floats, bootstrap: BootstrapSettings) -> SelectionGain:
        """Return the mean gain over slices, resampled over groups."""
        mean = estimate_mean(gains, self.groups, bootstrap)
        return SelectionGain(measure, mean, bootstrap.confidence)

    def balanced_gain(self, added: Floats, bootstrap: BootstrapSettings) -> SelectionGain:
        """Return the gain in balanced accuracy; `added` [slice]: predicted class minus the default's."""
        tumour, healthy = self.labels == 1, self.labels == 0
        hits, alarms, ill, well = (
            np.bincount(self.owner, column) for column in (added * tumour, added * healthy, tumour, healthy)
        )

        def statistic(weights: Floats) -> Floats:
            with np.errstate(invalid="ignore"):  # a resample without one of the classes
                gain = weights @ hits / (weights @ ill) - weights @ alarms / (weights @ well)
                return np.asarray(gain / 2)

        gain = estimate(statistic, self.num_groups, bootstrap)
        return SelectionGain("balanced accuracy", gain, bootstrap.confidence)

    def held_out(self, choose: Selector) -> Floats:
        """Return the value [slice] of each slice under selections made without its group."""
        return held_out_values(self.owner, self.classes @ (1 << np.arange(self.classes.shape[1])), choose)

    def held_out_classes(self, select: Callable[[Floats, Floats], float]) -> Floats:
        """Return the share [slice] of the thresholds selected without its group that each slice reaches.

        `select` returns a threshold for labels and probabilities.
        """
        labels, scores = self.labels, self.probabilities
        return self.held_out(lambda rows: (scores >= select(labels[rows], scores[rows])).astype(np.float64))


def included_slices(case: CaseOutput) -> SliceProbabilities:
    """Return the included slices of a case.

    Excluded slices have probability 0: a single one with a tumour would flatten the whole calibration.
    """
    included = np.ones(len(case.keys), np.bool_) if case.included is None else case.included
    groups = (case.group,) * int(included.sum())
    labels, probabilities = (
        np.asarray(values[included], np.float64) for values in (case.labels, case.class_probability)
    )
    return SliceProbabilities(labels, probabilities, groups, is_pictures=len(case.keys) == 1)


def concatenate_slices(parts: list[SliceProbabilities]) -> SliceProbabilities:
    return SliceProbabilities(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        tuple(group for part in parts for group in part.groups),
        is_pictures=all(part.is_pictures for part in parts),
    )
