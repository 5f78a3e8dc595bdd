"""The last network on the test patients, with the configured thresholds and with what was chosen."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.core.keys import SliceKey
from slicewise.core.labels import CLASSIFICATION
from slicewise.evaluation.bootstrap import Estimate
from slicewise.evaluation.calibration import calibration_figures
from slicewise.evaluation.choices import Choices
from slicewise.evaluation.evaluate import (
    CaseOutput,
    EvaluationResult,
    PackedMasks,
    ScoredCase,
    pool_cases,
    score_case,
)
from slicewise.evaluation.rows import PatientRow, SliceRow, by_source
from slicewise.evaluation.summary import mean_estimate, resampling


@dataclass(frozen=True)
class FinalResult:
    """`before`: the configured thresholds. `after`: the choices; that is what is reported."""

    before: EvaluationResult
    after: EvaluationResult
    choices: Choices
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


def evaluate_final(
    cases: Iterable[CaseOutput],
    choices: Choices,
    settings: Evaluation,
    seed: int,
    not_trained: tuple[str, ...] = (),
) -> FinalResult:
    """Score each case as configured and as chosen while it is at hand; the borders as chosen alone."""
    before, after = [], []
    for case in cases:
        decision = choices.decision(case.keys[0].source) if case.keys else choices.configured
        before.append(score_case(case, settings, choices.configured, surfaces=False))
        after.append(score_case(case, settings, decision))
    return FinalResult(
        replace(pool_cases(before, settings, seed), not_trained=not_trained),
        replace(pool_cases(after, settings, seed), not_trained=not_trained),
        choices,
        PredictedMasks(after),
    )


def before_and_after(final: FinalResult) -> dict[str, Any]:
    """Return per source what was decided and what it does to the test slices."""
    tables = {"before": final.before, "after": final.after}
    return {
        source: {
            **final.choices.decision(source).to_json(),
            "notes": list(final.choices.sources[source].notes) if source in final.choices.sources else [],
            **{name: _figures(source, result) for name, result in tables.items()},
        }
        for source in by_source(final.after.slices)
    }


def _figures(source: str, result: EvaluationResult) -> dict[str, Any]:
    rows: list[SliceRow] = by_source(result.slices)[source]
    patients: list[PatientRow] = by_source(result.patients)[source]
    dice: Estimate = mean_estimate(patients, lambda row: row.dice, resampling(result))
    classes: dict[str, Any] = dict.fromkeys(("ece", "ece_by_chance", "ece_bins", "brier", "accuracy"))
    if CLASSIFICATION not in result.not_trained:
        classes |= _class_figures(rows, result)
    return {**classes, "dice_per_patient": dice.to_json() if dice.num_patients else None}


def _class_figures(rows: list[SliceRow], result: EvaluationResult) -> dict[str, Any]:
    accuracy = mean_estimate(rows, lambda row: float(row.right), resampling(result))
    figures = calibration_figures(rows, result.settings.calibration_bins)
    return {**figures, "accuracy": accuracy.to_json()}
