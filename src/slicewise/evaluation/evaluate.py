"""Slice and patient tables of an evaluation, case by case, so that memory holds one case.

A score is None where it is undefined.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.domain.keys import SliceKey
from slicewise.domain.labels import TASKS
from slicewise.domain.tables import PatientRow, Scores, SliceRow
from slicewise.evaluation.statistics import BootstrapSettings
from slicewise.imaging.slicing import pad_missing_slices
from slicewise.inference.postprocess import Postprocessing, tumour_probability
from slicewise.metrics.confusion import count_overlap
from slicewise.metrics.surface_distance import SurfaceDistances, surface_distances
from slicewise.metrics.table import Level, MaskPairs, metrics_of

_MM3_PER_ML: Final = 1000.0


@dataclass(frozen=True)
class CaseOutput:
    """Predictions and labels of one case of S slices.

    Raises:
        ValueError: the arrays differ in length or shape, or a slice has no label.
    """

    keys: Sequence[SliceKey]
    group: str
    """What is split as one: the patient, or a family of near-identical pictures."""
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
    """Side of one pixel of the N x N slice; None where the files give no size, and volumes stay unknown."""
    slice_mm: float
    """Distance between slices."""
    included: NDArray[np.bool_] | None = None
    """[S], False for excluded slices (too little brain); None: all are included."""

    def __post_init__(self) -> None:
        parts = (self.keys, self.mask_probability, self.class_probability, self.labels)
        lengths = {len(part) for part in parts}
        name = str(self.keys[0].case_key) if self.keys else "a case without slices"
        if len(lengths) != 1 or (self.has_mask and self.masks.shape != self.mask_probability.shape):
            raise ValueError(f"keys, predictions and labels of {name} differ in length or shape")
        if not np.isin(self.labels, (0, 1)).all():
            raise ValueError(f"{name} has slices without a label; leave it out of the test cases")

    @property
    def indices(self) -> list[int]:
        """Index of each slice in its volume."""
        return [key.index for key in self.keys]


@dataclass(frozen=True)
class ScoredCase:
    """The rows of one case of S slices, and what is pooled with the patient's other cases."""

    rows: tuple[SliceRow, ...]
    voxel_ml: float
    """NaN where it is unknown."""
    contours: Sequence[SurfaceDistances] | None
    """[S] in pixels; None without a mask, or where surfaces were not requested."""
    surface: SurfaceDistances | None
    """Of the volume, in mm; None also where no pixel size is known."""
    packed_masks: NDArray[np.uint8]
    """[S, bytes] the predicted masks, eight pixels to a byte; figures are drawn from them later."""
    tumour_probability: float
    """Of the whole case, calibrated."""
    called: bool
    """Whether the whole case is called tumour."""

    @property
    def has_mask(self) -> bool:
        return any(row.reference_pixels is not None for row in self.rows)


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
    def bootstrap(self) -> BootstrapSettings:
        """How its intervals are drawn."""
        return BootstrapSettings(self.settings.bootstrap_samples, self.settings.confidence, self.seed)

    @property
    def absent(self) -> tuple[str, ...]:
        """The tasks that the model does not have."""
        return tuple(task for task in TASKS if task not in self.tasks)


def evaluate_slices(
    cases: Iterable[CaseOutput], settings: Evaluation, seed: int, *, surfaces: bool = True
) -> EvaluationResult:
    """Score every slice with the configured thresholds and pool the slices of each patient.

    The cases are consumed one by one: a generator keeps memory at one case. Without `surfaces` borders are
    not measured, which is quicker, and their columns stay empty.

    Raises:
        ValueError: a slice comes twice.
    """
    postprocessing = Postprocessing.configured(settings)
    scored = [score_case(case, settings, postprocessing, surfaces=surfaces) for case in cases]
    return pool_cases(scored, settings, seed)


def score_case(
    case: CaseOutput, settings: Evaluation, postprocessing: Postprocessing, *, surfaces: bool = True
) -> ScoredCase:
    """Return one row per slice of a case, in the order given, and what its patient is scored from."""
    predicted = postprocessing.masks(case.mask_probability, case.class_probability, case.indices)
    probability = postprocessing.probabilities(case.class_probability)
    called = probability >= postprocessing.class_threshold
    reference, size = case.masks > 0, case.pixel_mm
    overlap = count_overlap(reference, predicted) if case.has_mask else None
    contours = surface = pairs = None
    if surfaces and case.has_mask:
        contours = [surface_distances(*pair, (1.0, 1.0)) for pair in zip(reference, predicted, strict=True)]
        if size is not None:
            truth, guess = (pad_missing_slices(masks, case.indices) for masks in (reference, predicted))
            surface = surface_distances(truth, guess, (case.slice_mm, size, size))
    if overlap is not None:
        in_mm = None if contours is None or size is None else [part.scaled(size) for part in contours]
        side, tolerance = reference.shape[-1], settings.nsd_tolerance_mm
        counts = vars(overlap)
        pairs = MaskPairs(**counts, contours=contours, surfaces=in_mm, side=side, nsd_tolerance_mm=tolerance)
    scores = _mask_scores(pairs, len(case.keys), "slice")
    rows = [
        SliceRow(
            *(key.source, key.patient, key.case, key.index, case.group),
            asked=case.included is None or bool(case.included[place]),
            label=int(case.labels[place]),
            probability=float(probability[place]),
            predicted=int(called[place]),
            reference_pixels=int(overlap.reference[place]) if overlap else None,
            predicted_pixels=int(np.count_nonzero(predicted[place])),
            common_pixels=int(overlap.common[place]) if overlap else None,
            num_pixels=predicted[place].size,
            scores=scores[place],
        )
        for place, key in enumerate(case.keys)
    ]
    voxel_ml = math.nan if size is None else size**2 * case.slice_mm / _MM3_PER_ML
    packed = np.packbits(predicted.reshape(len(predicted), -1), axis=1)
    whole = tumour_probability(probability if case.included is None else probability[case.included])
    is_tumour = whole >= postprocessing.class_threshold
    return ScoredCase(tuple(rows), voxel_ml, contours, surface, packed, whole, is_tumour)


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
    volumes = (pairs.reference_ml, pairs.predicted_ml) if pairs else (math.nan, math.nan)
    reference_ml, predicted_ml = (volume if math.isfinite(volume) else None for volume in volumes)
    return PatientRow(
        *(rows[0].source, rows[0].patient, rows[0].group, len(cases), len(rows)),
        num_tumour_slices=sum(row.label for row in rows),
        slice_accuracy=sum(row.right for row in rows) / len(rows),
        top_probability=max(row.probability for row in rows),
        tumour_probability=max(case.tumour_probability for case in cases),
        called=int(any(case.called for case in cases)),
        reference_ml=reference_ml,
        predicted_ml=predicted_ml,
        empty_reference=bool(pairs.reference[0] == 0) if pairs else None,
        scores=_mask_scores(pairs, 1, "slice", "patient")[0],
    )


def _pair_masks(cases: list[ScoredCase], nsd_tolerance_mm: float) -> MaskPairs:
    """Return the masks of all slices of a patient as one pair; the surfaces are those of the volumes."""
    counts = np.zeros((len(cases), 4), np.int64)
    for place, case in enumerate(cases):
        for row in case.rows:
            pixels = (row.reference_pixels or 0, row.predicted_pixels, row.common_pixels or 0)
            counts[place] += (*pixels, row.num_pixels)
    reference, predicted, common, total = counts.sum(axis=0)[:, None]
    voxels_ml = np.array([case.voxel_ml for case in cases])
    contours = [part for case in cases for part in case.contours or ()]
    surfaces = [case.surface for case in cases if case.surface is not None]
    return MaskPairs(
        *(reference, predicted, common, total),
        contours=[SurfaceDistances.pooled(contours)] if contours else None,
        surfaces=[SurfaceDistances.pooled(surfaces)] if len(surfaces) == len(cases) else None,
        side=math.isqrt(cases[0].rows[0].num_pixels),
        nsd_tolerance_mm=nsd_tolerance_mm,
        reference_ml=float(sum(voxels_ml * counts[:, 0])),
        predicted_ml=float(sum(voxels_ml * counts[:, 1])),
        same_voxels=len(cases) == 1,
    )


def _mask_scores(pairs: MaskPairs | None, num_pairs: int, *levels: Level) -> list[Scores]:
    """Return the metrics of each pair of masks; all None without masks."""
    nothing = np.full(num_pairs, np.nan)
    columns = {
        metric.name: nothing if pairs is None else metric.of_masks(pairs) for metric in metrics_of(*levels)
    }
    return [
        {name: float(value[place]) if np.isfinite(value[place]) else None for name, value in columns.items()}
        for place in range(num_pairs)
    ]
