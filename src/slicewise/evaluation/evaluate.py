"""Slice and patient tables of an evaluation, case by case, so that memory holds one case."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from slicewise.config.schema import Evaluation
from slicewise.domain.tables import PatientRow, SliceRow
from slicewise.evaluation.per_case import CaseOutput, ScoredCase, patient_scores, score_case
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.confusion import Overlap


@dataclass(frozen=True)
class EvaluationResult:
    """The tables, sorted by key, and how they were made."""

    slices: tuple[SliceRow, ...]
    patients: tuple[PatientRow, ...]
    settings: Evaluation
    seed: int
    not_trained: tuple[str, ...] = ()
    """Tasks that the model was not trained for; their predictions mean nothing."""


def evaluate_slices(
    cases: Iterable[CaseOutput], settings: Evaluation, seed: int, *, surfaces: bool = True
) -> EvaluationResult:
    """Score every slice with the configured thresholds and pool the slices of each patient.

    Args:
        cases: consumed one by one; a generator keeps memory at one case.
        settings: thresholds, and what the summary needs for its intervals.
        seed: of the bootstrap draws.
        surfaces: measure borders too, which takes longer; without it their columns stay empty.

    Raises:
        ValueError: a slice comes twice, or arrays of a case differ in length.
    """
    postprocessing = Postprocessing.configured(settings)
    scored = [score_case(case, settings, postprocessing, surfaces=surfaces) for case in cases]
    return pool_cases(scored, settings, seed)


def pool_cases(scored: Sequence[ScoredCase], settings: Evaluation, seed: int) -> EvaluationResult:
    """Return the tables of scored cases, sorted; the cases of a patient are scored as one.

    Raises:
        ValueError: a slice comes twice.
    """
    rows = sorted((row for case in scored for row in case.rows), key=lambda row: row.key)
    for row, following in pairwise(rows):
        if row.key == following.key:
            raise ValueError(f"slice {row.key} was evaluated twice; each test case must come once")
    cases_of: dict[tuple[str, str], list[ScoredCase]] = {}
    for case in scored:
        if case.rows:
            cases_of.setdefault((case.rows[0].source, case.rows[0].patient), []).append(case)
    patients = tuple(_pool_patient(cases, settings) for _, cases in sorted(cases_of.items()))
    return EvaluationResult(tuple(rows), patients, settings, seed)


def _pool_patient(cases: list[ScoredCase], settings: Evaluation) -> PatientRow:
    rows = [row for case in cases for row in case.rows]
    masked = [case for case in cases if case.has_mask]
    counts = [
        (row.reference_pixels or 0, row.predicted_pixels, row.common_pixels or 0, row.num_pixels)
        for case in masked
        for row in case.rows
    ]
    overlap = Overlap(*np.array(counts, dtype=np.int64).reshape(-1, 4).sum(axis=0))
    borders = [case.borders for case in masked if case.borders is not None]
    reference_ml, predicted_ml = (_volume_ml(masked, name) for name in ("reference", "predicted"))
    known = reference_ml is not None and predicted_ml is not None
    return PatientRow(
        source=rows[0].source,
        patient=rows[0].patient,
        group=rows[0].group,
        num_cases=len(cases),
        num_slices=len(rows),
        num_tumour_slices=sum(row.label for row in rows),
        slice_accuracy=sum(row.right for row in rows) / len(rows),
        top_probability=max(row.probability for row in rows),
        tumour_probability=max(case.tumour_probability for case in cases),
        called=int(any(case.called for case in cases)),
        reference_ml=reference_ml,
        predicted_ml=predicted_ml,
        volume_error_ml=(predicted_ml or 0.0) - (reference_ml or 0.0) if known else None,
        relative_volume_error=_relative_error(masked, overlap, reference_ml, predicted_ml),
        empty_reference=bool(overlap.reference == 0) if masked else None,
        **patient_scores(overlap if masked else None, borders, settings.nsd_tolerance_mm),
    )


def _volume_ml(cases: list[ScoredCase], which: Literal["reference", "predicted"]) -> float | None:
    total = 0.0
    for case in cases:
        if case.voxel_ml is None:
            return None
        total += case.voxel_ml * sum(getattr(row, f"{which}_pixels") for row in case.rows)
    return total if cases else None


def _relative_error(
    cases: list[ScoredCase], overlap: Overlap, reference_ml: float | None, predicted_ml: float | None
) -> float | None:
    """Return predicted / reference volume - 1, of a single case also where its voxel size is unknown."""
    if overlap.reference == 0:
        return None
    if reference_ml is None or predicted_ml is None:
        return float(overlap.predicted / overlap.reference) - 1 if len(cases) == 1 else None
    return predicted_ml / reference_ml - 1
