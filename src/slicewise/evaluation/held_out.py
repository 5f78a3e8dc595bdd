"""The held-out test cases: opened once, after model selection, and scored before and after it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.domain.keys import SliceKey
from slicewise.domain.labels import CLASSIFICATION, TASKS
from slicewise.domain.tables import SliceRow, by_source
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.evaluate import EvaluationResult, pool_cases, score_case
from slicewise.evaluation.summary import mean_estimate
from slicewise.evaluation.threshold_selection import ThresholdSelection
from slicewise.inference.calibration import calibration_metrics

T = TypeVar("T")


class HeldOutCases(Generic[T]):
    """Test cases that are opened once, by a finished threshold selection; there is no other way to them."""

    def __init__(self, open_cases: Callable[[], Sequence[T]]) -> None:
        self._open: Callable[[], Sequence[T]] | None = open_cases

    def open(self, selection: ThresholdSelection) -> Sequence[T]:
        """Return the cases.

        Raises:
            RuntimeError: they were opened before; what is selected afterwards would not be held out.
            TypeError: `selection` is no finished selection.
        """
        if not isinstance(selection, ThresholdSelection):
            raise TypeError("the test cases open only after threshold selection: pass a ThresholdSelection")
        if self._open is None:
            raise RuntimeError("the test cases were opened before; they may be evaluated only once")
        open_cases, self._open = self._open, None
        return open_cases()


@dataclass(frozen=True)
class HeldOutResult:
    """`before`: with the configured thresholds. `after`: with the selected ones; this is what is reported."""

    before: EvaluationResult
    after: EvaluationResult
    selection: ThresholdSelection
    packed_masks: Mapping[SliceKey, NDArray[np.uint8]]

    def predicted_masks(self, row: SliceRow) -> NDArray[np.bool_]:
        """Return the reported masks [K, N, N] of a slice, after post-processing of the whole case."""
        pixels, side = (
            np.unpackbits(self.packed_masks[row.key], 1, row.num_pixels),
            math.isqrt(row.num_pixels),
        )
        return pixels.astype(np.bool_).reshape(-1, side, side)


def evaluate_held_out(
    cases: Iterable[CaseOutput],
    selection: ThresholdSelection,
    settings: Evaluation,
    seed: int,
    tasks: tuple[str, ...] = TASKS,
) -> HeldOutResult:
    """Return the scores with the configured and the selected thresholds; borders with the latter only."""
    before, after = [], []
    for case in cases:
        postprocessing = selection.postprocessing(case.keys[0].source) if case.keys else selection.configured
        before.append(score_case(case, settings, selection.configured, surfaces=False))
        after.append(score_case(case, settings, postprocessing))
    masks = {row.key: bits for case in after for row, bits in zip(case.rows, case.packed_masks, strict=True)}
    results = [replace(pool_cases(scored, settings, seed), tasks=tasks) for scored in (before, after)]
    return HeldOutResult(results[0], results[1], selection, masks)


def compare_thresholds(held_out: HeldOutResult) -> dict[str, Any]:
    """Return the post-processing of each source, and its test scores before and after selection."""
    selection, classes = held_out.selection, held_out.after.classes
    return {
        source: {
            **selection.postprocessing(source).to_json(),
            **({"mask_threshold": None} if classes.several and classes.exclusive else {}),
            "notes": list(selection.sources[source].notes) if source in selection.sources else [],
            "before": _scores(source, held_out.before),
            "after": _scores(source, held_out.after),
        }
        for source in by_source(held_out.after.slices)
    }


def _scores(source: str, result: EvaluationResult) -> dict[str, Any]:
    rows, patients = by_source(result.slices)[source], by_source(result.patients)[source]
    bootstrap = result.bootstrap
    dice = mean_estimate(patients, lambda row: row.dice, bootstrap)
    classes: dict[str, Any] = dict.fromkeys(("ece", "ece_by_chance", "ece_bins", "brier", "accuracy"))
    if CLASSIFICATION in result.tasks:
        accuracy = mean_estimate(rows, lambda row: float(row.right), bootstrap)
        classes |= calibration_metrics(rows, result.settings.calibration_bins)
        classes["accuracy"] = accuracy.to_json()
    return {**classes, "dice_per_patient": dice.to_json() if dice.num_patients else None}
