"""Grid search of mask threshold and post-processing for the best Dice per patient; no mask is kept.

Classes that may overlap have a search each.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.statistics import (
    BootstrapSettings,
    SelectionGain,
    estimate_mean,
    held_out_values,
    index_groups,
)
from slicewise.inference.postprocess import Bools, Postprocessing, filter_components, find_components

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

THRESHOLDS: Final = (0.3, 0.4, 0.5, 0.6, 0.7)
MIN_COMPONENTS: Final = (0, 20, 100)
"""Voxels of the prepared slices."""
COMPONENT_SHARES: Final = (0.0, 0.3, 1.0)
"""Of the largest component; 1 keeps the largest only."""
_TIE: Final = 1e-9


class MaskGridSearch:
    """The pixel counts of every candidate for one class on the cases added: a few numbers per slice."""

    def __init__(self, settings: Evaluation, number: int = 0) -> None:
        self._number = number
        self._configured = Postprocessing.configured(settings)
        self._gates = (False, True) if settings.postprocess else (False,)
        tried = {settings.mask_threshold, *(THRESHOLDS if settings.choose_mask_threshold else ())}
        self._thresholds = sorted(tried)
        # (smallest component in voxels, smallest as a share of the largest one)
        self._component_grid = [(settings.min_component, settings.component_share)]
        if settings.postprocess:
            sizes = sorted({settings.min_component, *MIN_COMPONENTS})
            shares = sorted({settings.component_share, *COMPONENT_SHARES})
            self._component_grid = list(product(sizes, shares))
        self._grid = [
            (threshold, *rest) for threshold, rest in product(self._thresholds, self._component_grid)
        ]
        self._tables: list[tuple[Counts, Counts, Counts, Floats]] = []
        """By case: predicted and common pixels [grid, slice], reference pixels and probability [slice]"""
        self._patients: list[str] = []
        self._group_of: dict[str, str] = {}

    def add(self, case: CaseOutput) -> None:
        """Count the pixels of the class in one case under every candidate, slice by slice."""
        reference, probability = case.reference[:, self._number], case.probability[:, self._number]
        predicted, common = [], []
        for threshold in self._thresholds:
            masks, inside = probability >= threshold, reference
            rows, cols = (np.flatnonzero(masks.any(axis=axes)) for axes in ((0, 2), (0, 1)))
            if rows.size:  # the bounding box of all slices
                box = np.s_[:, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
                masks, inside = masks[box], inside[box]
            unfiltered = self._component_grid == [(0, 0.0)]
            parts = None if unfiltered else find_components(masks, case.indices)  # labelled only once
            for component, share in self._component_grid:
                filtered = masks if parts is None else filter_components(parts, component, share)
                predicted.append(np.count_nonzero(filtered, axis=(1, 2)))
                common.append(np.count_nonzero(filtered & inside, axis=(1, 2)))
        counts = np.count_nonzero(reference, axis=(1, 2))
        scores = case.class_probability.astype(np.float64)
        self._tables.append((np.array(predicted), np.array(common), counts, scores))
        self._patients += [case.keys[0].patient] * len(case.keys)
        self._group_of[case.keys[0].patient] = case.group

    @property
    def num_groups(self) -> int:
        """Number of groups: patients, those of one group counted once."""
        return len({*self._group_of.values()})

    def best(
        self, postprocessing: Postprocessing, bootstrap: BootstrapSettings
    ) -> tuple[Postprocessing, SelectionGain | None]:
        """Return the candidate with the best mean Dice per patient, and its gain on held-out patients.

        Scaling and class threshold stay. Without a significant gain the configured candidate is returned;
        with equal means the one that changes least. The gain is None where there is a single candidate.
        """
        candidates = self._candidates(postprocessing)
        if len(candidates) == 1:
            return postprocessing, None
        groups = [self._group_of[patient] for patient in sorted(self._group_of)]
        row, gain = select_candidate(self.dice_table(postprocessing), groups, bootstrap)
        return candidates[row], gain

    def dice_table(self, postprocessing: Postprocessing) -> Floats:
        """Return the Dice [candidate, patient] of every candidate, the configured one first."""
        return np.array([self.patient_dice(candidate) for candidate in self._candidates(postprocessing)])

    def mean_dice(self, postprocessing: Postprocessing) -> float:
        """Return the mean Dice over patients."""
        return float(self.patient_dice(postprocessing).mean())

    def patient_dice(self, postprocessing: Postprocessing) -> Floats:
        """Return the Dice of each patient, all slices pooled, 1 where both masks are empty."""
        shape = (postprocessing.mask_threshold, postprocessing.min_component, postprocessing.component_share)
        place = self._grid.index(shape)
        every_predicted, every_common, references, probabilities = zip(*self._tables, strict=True)
        predicted, common = (np.hstack(table)[place] for table in (every_predicted, every_common))
        if postprocessing.gate:
            called = postprocessing.call(postprocessing.probabilities(np.concatenate(probabilities)))
            predicted, common = predicted * called, common * called
        _, owner = np.unique(self._patients, return_inverse=True)
        extent = np.bincount(owner, np.concatenate(references)) + np.bincount(owner, predicted)
        overlap = np.bincount(owner, common)
        return np.where(extent > 0, 2 * overlap / np.maximum(extent, 1), 1.0)

    def _candidates(self, postprocessing: Postprocessing) -> list[Postprocessing]:
        """Return all candidates, those that change least first."""
        fields = ("mask_threshold", "min_component", "component_share", "gate")
        grid = [(*shape, gate) for shape, gate in product(self._grid, self._gates)]
        candidates = [replace(postprocessing, **dict(zip(fields, values, strict=True))) for values in grid]
        return sorted(candidates, key=self._distance_to_configured)

    def _distance_to_configured(self, candidate: Postprocessing) -> tuple[float, ...]:
        moved = abs(candidate.mask_threshold - self._configured.mask_threshold)
        cleaned = abs(candidate.component_share - self._configured.component_share)
        size = abs(candidate.min_component - self._configured.min_component)
        parts = (moved > 0, size > 0, cleaned > 0, candidate.gate)
        return (sum(parts), *parts, moved, cleaned, candidate.mask_threshold, size)


def select_candidate(
    dice: Floats, groups: Sequence[str], bootstrap: BootstrapSettings
) -> tuple[int, SelectionGain]:
    """Return the row of the best candidate (0 where its gain is not significant) and the gain over row 0.

    `dice` is [candidate, patient], the default first; `groups` [patient] names the resampled unit of each.
    """
    names, owner = index_groups(groups)

    def choose(patients: Bools) -> Floats:
        values: Floats = dice[_argmax_dice(dice[:, patients])]
        return values

    added = held_out_values(owner, np.zeros(len(names), np.intp), choose) - dice[0]
    gain = SelectionGain("Dice per patient", estimate_mean(added, groups, bootstrap), bootstrap.confidence)
    return (_argmax_dice(dice) if gain.is_significant else 0), gain


def _argmax_dice(dice: Floats) -> int:
    """Return the row with the highest mean [candidate, patient], the first of equal ones."""
    means = dice.mean(axis=1)
    return int(np.flatnonzero(means >= means.max() - _TIE)[0])
