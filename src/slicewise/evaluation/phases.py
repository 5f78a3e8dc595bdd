"""The three training stages on the same test slices: what each added, with paired intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from slicewise.config.schema.training import StageName
from slicewise.evaluation.bootstrap import Estimate, estimate, group_rows, mean_of_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.metrics import roc_auc
from slicewise.evaluation.paired import paired_difference
from slicewise.evaluation.rows import PatientRow, SliceRow, by_source
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
    source: str,
    score: str,
    phases: Sequence[Phase],
    trained: Callable[[Phase], bool],
    measure: Callable[[str, Phase, Phase | None], Estimate | None],
) -> list[PhaseRow]:
    able = [phase for phase in phases if trained(phase)]
    if measure(source, (able or phases)[0], None) is None:
        return []
    to_row = partial(_row, source, score, (able or phases)[0])
    rows = [to_row(phase.name, measure(source, phase, None) if trained(phase) else None) for phase in phases]
    for later in able[1:]:
        first = able[0]
        p_value = _dice_test(source, later, first) if score == "dice_per_patient" else None
        rows.append(to_row(f"{later.name} - {first.name}", measure(source, later, first), p_value))
    return rows


def _row(
    source: str, score: str, any_phase: Phase, name: str, found: Estimate | None, p_value: float | None = None
) -> PhaseRow:
    if found is None:
        return PhaseRow(source, score, name, None, None, None, 0, 0, None, NOT_TRAINED)
    num_slices = len(_slices(source, any_phase))
    return PhaseRow(
        source,
        score,
        name,
        found.value,
        found.low,
        found.high,
        found.num_patients,
        num_slices,
        p_value,
        found.note,
    )


def _dice(source: str, phase: Phase, other: Phase | None) -> Estimate | None:
    """Return the mean Dice over patients, or its paired difference to the other phase; None without masks."""
    rows = _patients(source, phase)
    if not rows:
        return None
    base = _patients(source, other) if other else []
    paired = [
        (row.dice or 0.0) - (base[place].dice or 0.0 if base else 0.0) for place, row in enumerate(rows)
    ]
    names, owner = group_rows((row.source, row.group) for row in rows)
    return estimate(mean_of_rows(paired, owner), len(names), resampling(phase.result))


def _dice_test(source: str, phase: Phase, other: Phase) -> float | None:
    ours, theirs = _patients(source, phase), _patients(source, other)
    groups = [(row.source, row.group) for row in ours]
    one, two = ([row.dice or 0.0 for row in rows] for rows in (ours, theirs))
    return paired_difference(one, two, groups, resampling(phase.result)).p_value


def _patients(source: str, phase: Phase) -> list[PatientRow]:
    return [row for row in phase.result.patients if row.source == source and row.dice is not None]


def _auc(source: str, phase: Phase, other: Phase | None) -> Estimate:
    rows, how = _slices(source, phase), resampling(phase.result)
    if other is None:
        return auc_estimate(rows, how)
    names, owner = group_rows((row.source, row.group) for row in rows)
    labels = [row.label for row in rows]
    ours, theirs = ([row.probability for row in _slices(source, one)] for one in (phase, other))
    return estimate(
        lambda weights: roc_auc(labels, ours, weights[:, owner]) - roc_auc(labels, theirs, weights[:, owner]),
        len(names),
        how,
        width=len(rows),
    )


def _accuracy(source: str, phase: Phase, other: Phase | None) -> Estimate:
    rows = _slices(source, phase)
    names, owner = group_rows((row.source, row.group) for row in rows)
    base = [float(row.right) for row in _slices(source, other)] if other else [0.0] * len(rows)
    gained = (float(row.right) - before for row, before in zip(rows, base, strict=True))
    return estimate(mean_of_rows(gained, owner), len(names), resampling(phase.result))


def _majority(source: str, phase: Phase) -> PhaseRow:
    rows = _slices(source, phase)
    share = sum(row.label for row in rows) / len(rows)
    answer = "tumour" if share >= 0.5 else "no tumour"
    num_patients = len({row.group for row in rows})  # as many as the intervals beside it resample
    note = f"always answering {answer}"
    return PhaseRow(
        source, "accuracy", MAJORITY, max(share, 1 - share), None, None, num_patients, len(rows), None, note
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
