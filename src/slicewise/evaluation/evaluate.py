"""From the network's answers and the truth to the two tables; case by case, so that memory holds one case."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.core.keys import CaseKey, SliceKey
from slicewise.evaluation.metrics import Overlap, count_overlap, dice_score, iou_score
from slicewise.evaluation.rows import PatientRow, SliceRow

_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class CaseOutput:
    """One case of S slices as it left the network, beside the truth."""

    keys: Sequence[SliceKey]
    mask_probability: NDArray[np.float32]
    """[S, N, N]"""
    class_probability: NDArray[np.float32]
    """[S]"""
    masks: NDArray[np.uint8]
    """[S, N, N]; tumour is anything but 0. Ignored without `has_mask`."""
    has_mask: bool
    labels: NDArray[np.int8]
    """[S]; 1 tumour, 0 none."""
    pixel_mm: float | None
    """Side of one pixel of the N x N slice; None where the files tell no size, and volumes stay unknown."""
    slice_mm: float
    """Distance between slices."""

    def __post_init__(self) -> None:
        lengths = {
            len(self.keys), len(self.mask_probability), len(self.class_probability), len(self.labels)
        }  # fmt: skip
        if len(lengths) != 1 or (self.has_mask and self.masks.shape != self.mask_probability.shape):
            raise ValueError(f"keys, predictions and truth of {self.name} differ in length or shape")
        if not np.isin(self.labels, (0, 1)).all():
            raise ValueError(f"{self.name} has slices without a label; leave it out of the test cases")

    @property
    def name(self) -> str:
        return str(self.keys[0].case_key) if self.keys else "a case without slices"

    @property
    def voxel_ml(self) -> float | None:
        return None if self.pixel_mm is None else self.pixel_mm**2 * self.slice_mm / _MM3_PER_ML


@dataclass(frozen=True)
class EvaluationResult:
    """The tables, sorted by key, and how they were made."""

    slices: tuple[SliceRow, ...]
    patients: tuple[PatientRow, ...]
    settings: Evaluation
    seed: int


def evaluate_slices(cases: Iterable[CaseOutput], settings: Evaluation, seed: int) -> EvaluationResult:
    """Score every slice and pool the slices of each patient.

    Args:
        cases: consumed one by one; a generator keeps memory at one case.
        settings: thresholds, and what the summary needs for its intervals.
        seed: of the bootstrap draws.

    Raises:
        ValueError: a slice comes twice, or arrays of a case differ in length.
    """
    rows: list[SliceRow] = []
    voxel_ml: dict[CaseKey, float | None] = {}
    for case in cases:
        rows += score_case(case, settings)
        voxel_ml |= {key.case_key: case.voxel_ml for key in case.keys}
    rows.sort(key=lambda row: row.key)
    _refuse_doubles(rows)
    return EvaluationResult(tuple(rows), tuple(pool_patients(rows, voxel_ml)), settings, seed)


def score_case(case: CaseOutput, settings: Evaluation) -> list[SliceRow]:
    """Return one row per slice of a case, in the order given."""
    predicted = case.mask_probability >= settings.mask_threshold
    reference = case.masks > 0 if case.has_mask else np.zeros_like(predicted)
    overlap = count_overlap(reference, predicted)
    dice, iou = dice_score(overlap), iou_score(overlap)
    called = case.class_probability >= settings.class_threshold
    return [
        SliceRow(
            source=key.source,
            patient=key.patient,
            case=key.case,
            index=key.index,
            label=int(case.labels[place]),
            probability=float(case.class_probability[place]),
            predicted=int(called[place]),
            reference_pixels=int(overlap.reference[place]) if case.has_mask else None,
            predicted_pixels=int(overlap.predicted[place]),
            common_pixels=int(overlap.common[place]) if case.has_mask else None,
            dice=float(dice[place]) if case.has_mask else None,
            iou=float(iou[place]) if case.has_mask else None,
        )
        for place, key in enumerate(case.keys)
    ]


def pool_patients(rows: Sequence[SliceRow], voxel_ml: dict[CaseKey, float | None]) -> list[PatientRow]:
    """Return one row per patient, sorted; `voxel_ml` is the volume of one pixel of each case's slices."""
    patients: dict[tuple[str, str], list[SliceRow]] = {}
    for row in rows:
        patients.setdefault((row.source, row.patient), []).append(row)
    return [_pool(own, voxel_ml) for _, own in sorted(patients.items())]


def _pool(rows: list[SliceRow], voxel_ml: dict[CaseKey, float | None]) -> PatientRow:
    masked = [row for row in rows if row.reference_pixels is not None]
    overlap = _sum(masked)
    return PatientRow(
        source=rows[0].source,
        patient=rows[0].patient,
        num_cases=len({row.case for row in rows}),
        num_slices=len(rows),
        num_tumour_slices=sum(row.label for row in rows),
        slice_accuracy=sum(row.right for row in rows) / len(rows),
        top_probability=max(row.probability for row in rows),
        reference_ml=_millilitres(masked, "reference_pixels", voxel_ml),
        predicted_ml=_millilitres(masked, "predicted_pixels", voxel_ml),
        empty_reference=bool(overlap.reference == 0) if masked else None,
        dice=float(dice_score(overlap)) if masked else None,
        iou=float(iou_score(overlap)) if masked else None,
    )


def _sum(rows: list[SliceRow]) -> Overlap:
    table = [(row.reference_pixels or 0, row.predicted_pixels, row.common_pixels or 0) for row in rows]
    reference, predicted, common = np.array(table, dtype=np.int64).reshape(-1, 3).sum(axis=0)
    return Overlap(reference, predicted, common)


def _millilitres(rows: list[SliceRow], column: str, voxel_ml: dict[CaseKey, float | None]) -> float | None:
    total = 0.0
    for row in rows:
        voxel = voxel_ml[row.key.case_key]
        if voxel is None:
            return None
        total += getattr(row, column) * voxel
    return total if rows else None


def _refuse_doubles(rows: list[SliceRow]) -> None:
    for one, other in pairwise(rows):
        if one.key == other.key:
            raise ValueError(f"slice {one.key} was evaluated twice; each test case must come once")
