"""The three training stages on the same test slices: what each added, with paired intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slicewise.config.schema.training import StageName
from slicewise.domain.tables import (
    PatientRow,
    SliceRow,
    by_source,
    describe_class_threshold,
    describe_mask_threshold,
)
from slicewise.evaluation.comparison.stage_gains import MINUS
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.statistics.bootstrap import Floats, estimate, index_groups, mean_statistic
from slicewise.evaluation.statistics.paired_difference import Difference, paired_difference
from slicewise.evaluation.summary import auc_estimate, bootstrap_settings
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.confusion import roc_auc

NOT_TRAINED = "not trained in this phase"
MAJORITY = "majority class"


@dataclass(frozen=True)
class StageResult:
    """One stage's checkpoint on the test slices, and which of its answers the stage has trained."""

    name: StageName
    result: EvaluationResult
    trained_mask: bool
    """False where the decoder was not updated; its masks are then those of the stage before."""
    trained_class: bool


@dataclass(frozen=True, slots=True)
class StageRow:
    """One score of one phase. An untrained head has a note and no score."""

    source: str
    score: str
    phase: str
    value: float | None
    low: float | None
    high: float | None
    num_patients: int
    """Of the units that are resampled: patients, or families of pictures."""
    num_slices: int
    p_value: float | None
    """Of a difference in Dice: Wilcoxon's signed-rank test over patients."""
    note: str
    condition: str
    """The threshold behind a score that depends on one."""


Measure = Callable[[str, StageResult, StageResult | None], Difference | None]
"""(source, phase, other) -> the score of the phase or, with another, what it has more than that one."""


def compare_stages(stages: Sequence[StageResult]) -> list[StageRow]:
    """Return Dice per patient, AUC and accuracy per slice of each phase by source, then paired differences.

    Accuracy stands beside what always giving the more frequent answer would reach.

    A difference is a later phase minus the first that trained the same head, over the same resamples.

    Raises:
        ValueError: the phases were not evaluated on the same slices, or there are none.
    """
    _require_same_slices(stages)
    rows: list[StageRow] = []
    for source in by_source(stages[0].result.slices):
        rows += _scores(source, "dice_per_patient", stages, lambda phase: phase.trained_mask, _dice)
        rows += _scores(source, "roc_auc", stages, lambda phase: phase.trained_class, _auc)
        accuracy = _scores(source, "accuracy", stages, lambda phase: phase.trained_class, _accuracy)
        rows += [_majority(source, stages[0]), *accuracy] if accuracy else []
    return rows


def _scores(
    source: str,
    score: str,
    stages: Sequence[StageResult],
    trained: Callable[[StageResult], bool],
    measure: Measure,
) -> list[StageRow]:
    """Return a row per phase, then one per difference to the first phase that trained the head."""
    if measure(source, stages[0], None) is None:
        return []
    num_slices, condition = len(_slices(source, stages[0])), _condition(score, stages[0])
    rows = [
        _row(source, score, phase.name, num_slices, measure(source, phase, None), condition)
        if trained(phase)
        else StageRow(source, score, phase.name, None, None, None, 0, 0, None, NOT_TRAINED, condition)
        for phase in stages
    ]
    able = [phase for phase in stages if trained(phase)]
    for later in able[1:]:
        name = f"{later.name}{MINUS}{able[0].name}"
        rows.append(_row(source, score, name, num_slices, measure(source, later, able[0]), condition))
    return rows


def _condition(score: str, phase: StageResult) -> str:
    """Return the threshold that decides a score: the configured one, the same for every stage."""
    configured = Postprocessing.configured(phase.result.settings).to_json()
    conditions = {"dice_per_patient": describe_mask_threshold, "accuracy": describe_class_threshold}
    return conditions[score](configured) if score in conditions else ""


def _row(
    source: str, score: str, name: str, num_slices: int, measured: Difference | None, condition: str
) -> StageRow:
    assert measured is not None
    value = measured.estimate
    return StageRow(
        source, score, name, value.value, value.low, value.high, value.num_patients, num_slices,
        measured.p_value, value.note, condition,
    )  # fmt: skip


def _dice(source: str, phase: StageResult, other: StageResult | None) -> Difference | None:
    """Return the mean Dice over patients, or its paired difference to the other phase; None without masks."""
    rows, bootstrap = _patients(source, phase), bootstrap_settings(phase.result)
    if not rows:
        return None
    groups, values = [(row.source, row.group) for row in rows], [row.dice or 0.0 for row in rows]
    if other is not None:
        return paired_difference(
            values, [row.dice or 0.0 for row in _patients(source, other)], groups, bootstrap
        )
    names, owner = index_groups(groups)
    return Difference(estimate(mean_statistic(values, owner), len(names), bootstrap), None)


def _patients(source: str, phase: StageResult) -> list[PatientRow]:
    return [row for row in phase.result.patients if row.source == source and row.dice is not None]


def _auc(source: str, phase: StageResult, other: StageResult | None) -> Difference:
    rows, bootstrap = _slices(source, phase), bootstrap_settings(phase.result)
    if other is None:
        return Difference(auc_estimate(rows, bootstrap), None)
    names, owner = index_groups((row.source, row.group) for row in rows)
    labels = [row.label for row in rows]
    values, other_values = ([row.probability for row in _slices(source, one)] for one in (phase, other))

    def gained(weights: Floats) -> Floats:
        drawn = weights[:, owner]
        return roc_auc(labels, values, drawn) - roc_auc(labels, other_values, drawn)

    return Difference(estimate(gained, len(names), bootstrap, width=len(rows)), None)


def _accuracy(source: str, phase: StageResult, other: StageResult | None) -> Difference:
    rows = _slices(source, phase)
    names, owner = index_groups((row.source, row.group) for row in rows)
    right = np.array([row.right for row in rows], np.float64)
    if other is not None:
        right -= [row.right for row in _slices(source, other)]
    return Difference(
        estimate(mean_statistic(right, owner), len(names), bootstrap_settings(phase.result)), None
    )


def _majority(source: str, phase: StageResult) -> StageRow:
    rows = _slices(source, phase)
    share = sum(row.label for row in rows) / len(rows)
    majority = "tumour" if share >= 0.5 else "no tumour"
    num_patients = len({row.group for row in rows})  # as many as the intervals beside it resample
    note = f"always answering {majority}"
    return StageRow(
        source,
        "accuracy",
        MAJORITY,
        max(share, 1 - share),
        None,
        None,
        num_patients,
        len(rows),
        None,
        note,
        "",
    )


def _slices(source: str, phase: StageResult) -> list[SliceRow]:
    return [row for row in phase.result.slices if row.source == source]


def _require_same_slices(stages: Sequence[StageResult]) -> None:
    if not stages:
        raise ValueError("there is no phase to compare")
    keys: list[Any] = [[row.key for row in phase.result.slices] for phase in stages]
    for phase, measured in zip(stages, keys, strict=True):
        if measured != keys[0]:
            raise ValueError(f"{phase.name} and {stages[0].name} were not evaluated on the same slices")
