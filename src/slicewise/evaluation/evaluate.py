"""Slice and patient tables of an evaluation, case by case, so that memory holds one case."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from slicewise.config.schema import Evaluation
from slicewise.domain.labels import TASKS
from slicewise.domain.tables import PatientRow, SliceRow
from slicewise.evaluation.per_case import CaseOutput, ScoredCase, mask_scores, score_case
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.surface_distance import SurfaceDistances
from slicewise.metrics.table import MaskPairs


@dataclass(frozen=True)
class EvaluationResult:
    """The tables, sorted by key, and how they were made."""

    slices: tuple[SliceRow, ...]
    patients: tuple[PatientRow, ...]
    settings: Evaluation
    seed: int
    tasks: tuple[str, ...] = TASKS
    """Those of the model."""

    @property
    def absent(self) -> tuple[str, ...]:
        """The tasks that the model does not have."""
        return tuple(task for task in TASKS if task not in self.tasks)


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
    pairs = _pair_masks(masked, settings.nsd_tolerance_mm) if masked else None
    volumes = (pairs.reference_ml, pairs.predicted_ml) if pairs else (np.nan, np.nan)
    reference_ml, predicted_ml = (float(volume) if np.isfinite(volume) else None for volume in volumes)
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
        empty_reference=bool(pairs.reference[0] == 0) if pairs else None,
        scores=mask_scores(pairs, 1, "slice", "patient")[0],
    )


def _pair_masks(cases: list[ScoredCase], nsd_tolerance_mm: float) -> MaskPairs:
    """Return the masks of all slices of a patient as one pair; the surfaces are those of the volumes."""
    counts = [
        (row.reference_pixels or 0, row.predicted_pixels, row.common_pixels or 0, row.num_pixels)
        for case in cases
        for row in case.rows
    ]
    borders = [case.borders for case in cases if case.borders is not None]
    contours = [SurfaceDistances.pooled([part for case in borders for part in case.slices])]
    volumes = [case.volume for case in borders if case.volume is not None]
    known = borders and len(volumes) == len(borders)
    reference_ml, predicted_ml = (_volume_ml(cases, name) for name in ("reference", "predicted"))
    reference, predicted, common, total = np.array(counts, dtype=np.int64).sum(axis=0)[:, None]
    return MaskPairs(
        reference,
        predicted,
        common,
        total,
        contours=contours if borders else None,
        surfaces=[SurfaceDistances.pooled(volumes)] if known else None,
        side=borders[0].side if borders else 0,
        nsd_tolerance_mm=nsd_tolerance_mm,
        reference_ml=reference_ml,
        predicted_ml=predicted_ml,
        same_voxels=len(cases) == 1,
    )


def _volume_ml(cases: list[ScoredCase], which: Literal["reference", "predicted"]) -> float:
    total = 0.0
    for case in cases:
        voxel_ml = np.nan if case.voxel_ml is None else case.voxel_ml
        total += voxel_ml * sum(getattr(row, f"{which}_pixels") for row in case.rows)
    return total
