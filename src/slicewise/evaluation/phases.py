"""The three training stages on the same test slices: what each added, with paired intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slicewise.config.schema.training import StageName
from slicewise.evaluation.bootstrap import Floats, estimate, group_rows, mean_of_rows
from slicewise.evaluation.decision import Decision
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.gains import MINUS
from slicewise.evaluation.metrics import roc_auc
from slicewise.evaluation.paired import Difference, paired_difference
from slicewise.evaluation.rows import PatientRow, SliceRow, by_source, class_condition, mask_condition
from slicewise.evaluation.summary import auc_estimate, resampling

NOT_TRAINED = "not trained in this phase"
MAJORITY = "majority class"


@dataclass(frozen=True)
class Phase:
    """One stage's checkpoint on the test slices, and which of its answers the stage has trained."""

    name: StageName
    result: EvaluationResult
    trained_mask: bool
    """False where the decoder was not updated; its masks are then those of the stage before."""
    trained_class: bool


@dataclass(frozen=True, slots=True)
class PhaseRow:
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


Measure = Callable[[str, Phase, Phase | None], Difference | None]
"""(source, phase, other) -> the score of the phase or, with another, what it has more than that one."""


def compare_phases(phases: Sequence[Phase]) -> list[PhaseRow]:
    """Return Dice per patient, AUC and accuracy per slice of each phase by source, then paired differences.

    Accuracy stands beside what always giving the more frequent answer would reach.

    A difference is a later phase minus the first that trained the same head, over the same resamples.

    Raises:
        ValueError: the phases were not evaluated on the same slices, or there are none.
    """
    _require_same_slices(phases)
    rows: list[PhaseRow] = []
    for source in by_source(phases[0].result.slices):
        rows += _scores(source, "dice_per_patient", phases, lambda phase: phase.trained_mask, _dice)
        rows += _scores(source, "roc_auc", phases, lambda phase: phase.trained_class, _auc)
        accuracy = _scores(source, "accuracy", phases, lambda phase: phase.trained_class, _accuracy)
        rows += [_majority(source, phases[0]), *accuracy] if accuracy else []
    return rows


def _scores(
    source: str, score: str, phases: Sequence[Phase], trained: Callable[[Phase], bool], measure: Measure
) -> list[PhaseRow]:
    """Return a row per phase, then one per difference to the first phase that trained the head."""
    if measure(source, phases[0], None) is None:
        return []
    num_slices, condition = len(_slices(source, phases[0])), _condition(score, phases[0])
    rows = [
        _row(source, score, phase.name, num_slices, measure(source, phase, None), condition)
        if trained(phase)
        else PhaseRow(source, score, phase.name, None, None, None, 0, 0, None, NOT_TRAINED, condition)
        for phase in phases
    ]
    able = [phase for phase in phases if trained(phase)]
    for later in able[1:]:
        name = f"{later.name}{MINUS}{able[0].name}"
        rows.append(_row(source, score, name, num_slices, measure(source, later, able[0]), condition))
    return rows


def _condition(score: str, phase: Phase) -> str:
    """Return the threshold that decides a score: the configured one, the same for every stage."""
    configured = Decision.configured(phase.result.settings).to_json()
    conditions = {"dice_per_patient": mask_condition, "accuracy": class_condition}
    return conditions[score](configured) if score in conditions else ""


def _row(
    source: str, score: str, name: str, num_slices: int, found: Difference | None, condition: str
) -> PhaseRow:
    assert found is not None
    value = found.estimate
    return PhaseRow(
        source, score, name, value.value, value.low, value.high, value.num_patients, num_slices,
        found.p_value, value.note, condition,
    )  # fmt: skip


def _dice(source: str, phase: Phase, other: Phase | None) -> Difference | None:
    """Return the mean Dice over patients, or its paired difference to the other phase; None without masks."""
    rows, how = _patients(source, phase), resampling(phase.result)
    if not rows:
        return None
    groups, ours = [(row.source, row.group) for row in rows], [row.dice or 0.0 for row in rows]
    if other is not None:
        return paired_difference(ours, [row.dice or 0.0 for row in _patients(source, other)], groups, how)
    names, owner = group_rows(groups)
    return Difference(estimate(mean_of_rows(ours, owner), len(names), how), None)


def _patients(source: str, phase: Phase) -> list[PatientRow]:
    return [row for row in phase.result.patients if row.source == source and row.dice is not None]


def _auc(source: str, phase: Phase, other: Phase | None) -> Difference:
    rows, how = _slices(source, phase), resampling(phase.result)
    if other is None:
        return Difference(auc_estimate(rows, how), None)
    names, owner = group_rows((row.source, row.group) for row in rows)
    labels = [row.label for row in rows]
    ours, theirs = ([row.probability for row in _slices(source, one)] for one in (phase, other))

    def gained(weights: Floats) -> Floats:
        drawn = weights[:, owner]
        return roc_auc(labels, ours, drawn) - roc_auc(labels, theirs, drawn)

    return Difference(estimate(gained, len(names), how, width=len(rows)), None)


def _accuracy(source: str, phase: Phase, other: Phase | None) -> Difference:
    rows = _slices(source, phase)
    names, owner = group_rows((row.source, row.group) for row in rows)
    right = np.array([row.right for row in rows], np.float64)
    if other is not None:
        right -= [row.right for row in _slices(source, other)]
    return Difference(estimate(mean_of_rows(right, owner), len(names), resampling(phase.result)), None)


def _majority(source: str, phase: Phase) -> PhaseRow:
    rows = _slices(source, phase)
    share = sum(row.label for row in rows) / len(rows)
    answer = "tumour" if share >= 0.5 else "no tumour"
    num_patients = len({row.group for row in rows})  # as many as the intervals beside it resample
    note = f"always answering {answer}"
    return PhaseRow(
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


def _slices(source: str, phase: Phase) -> list[SliceRow]:
    return [row for row in phase.result.slices if row.source == source]


def _require_same_slices(phases: Sequence[Phase]) -> None:
    if not phases:
        raise ValueError("there is no phase to compare")
    keys: list[Any] = [[row.key for row in phase.result.slices] for phase in phases]
    for phase, found in zip(phases, keys, strict=True):
        if found != keys[0]:
            raise ValueError(f"{phase.name} and {phases[0].name} were not evaluated on the same slices")
