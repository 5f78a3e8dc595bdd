"""The last network on the test patients, with the configured thresholds and with what was chosen."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.domain.keys import SliceKey
from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.tables import Estimate, PatientRow, SliceRow, by_source
from slicewise.evaluation.evaluate import (
    CaseOutput,
    EvaluationResult,
    PackedMasks,
    ScoredCase,
    pool_cases,
    score_case,
)
from slicewise.evaluation.summary import bootstrap_settings, mean_estimate
from slicewise.evaluation.threshold_selection import ThresholdSelection
from slicewise.inference.calibration import calibration_metrics


@dataclass(frozen=True)
class HeldOutResult:
    """`before`: the configured thresholds. `after`: the choices; that is what is reported."""

    before: EvaluationResult
    after: EvaluationResult
    selection: ThresholdSelection
    masks: "PredictedMasks"


class PredictedMasks:
    """The reported masks by slice: what post-processing left of them cannot be had from a slice alone."""

    def __init__(self, cases: Iterable[ScoredCase]) -> None:
        self._places: dict[SliceKey, tuple[PackedMasks, int]] = {
            row.key: (case.predicted, place) for case in cases for place, row in enumerate(case.rows)
        }

    def __getitem__(self, key: SliceKey) -> NDArray[np.bool_]:
        masks, place = self._places[key]
        return masks[place]


def evaluate_held_out(
    cases: Iterable[CaseOutput],
    selection: ThresholdSelection,
    settings: Evaluation,
    seed: int,
    not_trained: tuple[str, ...] = (),
) -> HeldOutResult:
    """Score each case as configured and as chosen while it is at hand; the borders as chosen alone."""
    before, after = [], []
    for case in cases:
        postprocessing = selection.postprocessing(case.keys[0].source) if case.keys else selection.configured
        before.append(score_case(case, settings, selection.configured, surfaces=False))
        after.append(score_case(case, settings, postprocessing))
    return HeldOutResult(
        replace(pool_cases(before, settings, seed), not_trained=not_trained),
        replace(pool_cases(after, settings, seed), not_trained=not_trained),
        selection,
        PredictedMasks(after),
    )


def compare_thresholds(held_out: HeldOutResult) -> dict[str, Any]:
    """Return per source what was decided and what it does to the test slices."""
    tables = {"before": held_out.before, "after": held_out.after}
    return {
        source: {
            **held_out.selection.postprocessing(source).to_json(),
            "notes": list(held_out.selection.sources[source].notes)
            if source in held_out.selection.sources
            else [],
            **{name: _scores(source, result) for name, result in tables.items()},
        }
        for source in by_source(held_out.after.slices)
    }


def _scores(source: str, result: EvaluationResult) -> dict[str, Any]:
    rows: list[SliceRow] = by_source(result.slices)[source]
    patients: list[PatientRow] = by_source(result.patients)[source]
    dice: Estimate = mean_estimate(patients, lambda row: row.dice, bootstrap_settings(result))
    classes: dict[str, Any] = dict.fromkeys(("ece", "ece_by_chance", "ece_bins", "brier", "accuracy"))
    if CLASSIFICATION not in result.not_trained:
        classes |= _class_scores(rows, result)
    return {**classes, "dice_per_patient": dice.to_json() if dice.num_patients else None}


def _class_scores(rows: list[SliceRow], result: EvaluationResult) -> dict[str, Any]:
    accuracy = mean_estimate(rows, lambda row: float(row.right), bootstrap_settings(result))
    figures = calibration_metrics(rows, result.settings.calibration_bins)
    return {**figures, "accuracy": accuracy.to_json()}
