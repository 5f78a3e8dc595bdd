"""The mask threshold and post-processing with the best Dice per patient, from a grid; no mask is kept."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.evaluation.bootstrap import Resampling, estimate, group_rows, mean_of_rows
from slicewise.evaluation.decision import Bools, Decision, find_parts, keep_parts
from slicewise.evaluation.evaluate import CaseOutput
from slicewise.evaluation.held_out import Gain, held_out_values

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

THRESHOLDS: Final = (0.3, 0.4, 0.5, 0.6, 0.7)
COMPONENTS: Final = (0, 20, 100)
"""Voxels of the prepared slices."""
SHARES: Final = (0.0, 0.3, 1.0)
"""Of the largest part; 1 leaves that one alone."""
_TIE: Final = 1e-9


class MaskSearch:
    """The pixel counts of every candidate on the slices seen so far: a few numbers per slice."""

    def __init__(self, settings: Evaluation) -> None:
        self._configured = Decision.configured(settings)
        self._gates = (False, True) if settings.postprocess else (False,)
        tried = {settings.mask_threshold, *(THRESHOLDS if settings.choose_mask_threshold else ())}
        self._thresholds = sorted(tried)
        self._cleanings = _cleanings(settings)
        self._shapes = [(one, *two) for one, two in product(self._thresholds, self._cleanings)]
        self._predicted: list[Counts] = []
        self._common: list[Counts] = []
        self._reference: list[Counts] = []
        self._scores: list[Floats] = []
        self._owners: list[str] = []
        self._group_of: dict[str, str] = {}

    def add(self, case: CaseOutput) -> None:
        """Count the pixels of one case under every candidate, slice by slice."""
        reference = case.masks > 0
        counts = [self._count(case, reference, threshold) for threshold in self._thresholds]
        predicted, common = (np.concatenate([part[which] for part in counts]) for which in (0, 1))
        self._predicted.append(predicted)
        self._common.append(common)
        self._reference.append(np.count_nonzero(reference, axis=(1, 2)))
        self._scores.append(case.class_probability.astype(np.float64))
        self._owners += [case.keys[0].patient] * len(case.keys)
        self._group_of[case.keys[0].patient] = case.group

    def _count(self, case: CaseOutput, reference: Bools, threshold: float) -> tuple[Counts, Counts]:
        """Count [cleaning, slice] predicted and common pixels; the parts are found once for all cleanings."""
        masks = case.mask_probability >= threshold
        box = _box(masks)
        masks, reference = masks[box], reference[box]
        plain = self._cleanings == [(0, 0.0)]
        parts = None if plain else find_parts(masks, case.indices)
        predicted, common = [], []
        for component, share in self._cleanings:
            kept = masks if parts is None else keep_parts(parts, component, share)
            predicted.append(np.count_nonzero(kept, axis=(1, 2)))
            common.append(np.count_nonzero(kept & reference, axis=(1, 2)))
        return np.array(predicted), np.array(common)

    @property
    def num_groups(self) -> int:
        """Number of patients, those of one group counted once."""
        return len({*self._group_of.values()})

    def best(self, decision: Decision, how: Resampling) -> tuple[Decision, Gain | None]:
        """Return the decision with the best mean Dice per patient; its scaling and class threshold stay.

        Another candidate than the configured one is taken only where taking the best one gains significantly
        on patients it was not chosen on. Ties fall to the candidate that changes least. The gain is that on
        the held-out patients; None where there is one candidate alone.
        """
        candidates = self._candidates(decision)
        if len(candidates) == 1:
            return decision, None
        groups = [self._group_of[patient] for patient in sorted(self._group_of)]
        row, gain = best_row(self.dice_table(decision), groups, how)
        return candidates[row], gain

    def dice_table(self, decision: Decision) -> Floats:
        """Return the Dice [candidate, patient] of every candidate, the configured one first."""
        return np.array([self.patient_dice(candidate) for candidate in self._candidates(decision)])

    def mean_dice(self, decision: Decision) -> float:
        """Return the mean Dice over patients."""
        return float(self.patient_dice(decision).mean())

    def patient_dice(self, decision: Decision) -> Floats:
        """Return the Dice of each patient, all slices pooled, 1 where both masks are empty."""
        shape = (decision.mask_threshold, decision.min_component, decision.component_share)
        place = self._shapes.index(shape)
        predicted, common = (np.hstack(table)[place] for table in (self._predicted, self._common))
        if decision.gate:
            scores = decision.probabilities(np.concatenate(self._scores))
            called = scores >= decision.class_threshold
            predicted, common = predicted * called, common * called
        _, owner = np.unique(self._owners, return_inverse=True)
        reference = np.bincount(owner, np.concatenate(self._reference))
        extent = reference + np.bincount(owner, predicted)
        overlap = np.bincount(owner, common)
        return np.where(extent > 0, 2 * overlap / np.maximum(extent, 1), 1.0)

    def _candidates(self, decision: Decision) -> list[Decision]:
        """Return all candidates, those that change least first."""
        found = [
            replace(
                decision, mask_threshold=threshold, min_component=component, component_share=share, gate=gate
            )
            for (threshold, component, share), gate in product(self._shapes, self._gates)
        ]
        return sorted(found, key=self._changes)

    def _changes(self, candidate: Decision) -> tuple[float, ...]:
        moved = abs(candidate.mask_threshold - self._configured.mask_threshold)
        cleaned = abs(candidate.component_share - self._configured.component_share)
        parts = (moved > 0, candidate.min_component > 0, cleaned > 0, candidate.gate)
        return (sum(parts), *parts, moved, cleaned, candidate.mask_threshold, candidate.min_component)


def best_row(dice: Floats, groups: Sequence[str], how: Resampling) -> tuple[int, Gain]:
    """Return the row of the best candidate, or 0 where its gain is not significant, and the gain over row 0.

    Args:
        dice: [candidate, patient]; the first candidate is the default.
        groups: [patient] what is resampled as one.
        how: the interval of the gain.
    """
    names, owner = group_rows(groups)

    def choose(patients: Bools) -> Floats:
        values: Floats = dice[_best(dice[:, patients])]
        return values

    added = held_out_values(owner, np.zeros(len(names), np.intp), choose) - dice[0]
    gain = Gain("Dice per patient", estimate(mean_of_rows(added, owner), len(names), how), how.confidence)
    return (_best(dice) if gain.is_significant else 0), gain


def _best(dice: Floats) -> int:
    """Return the row with the highest mean [candidate, patient], the first of equal ones."""
    means = dice.mean(axis=1)
    return int(np.flatnonzero(means >= means.max() - _TIE)[0])


def _cleanings(settings: Evaluation) -> list[tuple[int, float]]:
    """Return the smallest part and the smallest share of each candidate."""
    if not settings.postprocess:
        return [(0, settings.component_share)]
    return list(product(COMPONENTS, sorted({settings.component_share, *SHARES})))


def _box(masks: Bools) -> tuple[slice, slice, slice]:
    """Return all slices, and the rows and columns in which any of them has a pixel."""
    rows, cols = (np.flatnonzero(masks.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    if not rows.size:
        return slice(None), slice(0, 1), slice(0, 1)
    return slice(None), slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)
