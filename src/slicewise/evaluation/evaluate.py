"""Slice and patient tables, case by case: memory holds one case. A score that is undefined is None."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.domain.classes import TUMOUR, TUMOUR_OR_NOT, Classes
from slicewise.domain.keys import SliceKey
from slicewise.domain.labels import TASKS
from slicewise.domain.tables import PROBABILITY, PatientRow, SliceRow
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.statistics import BootstrapSettings
from slicewise.imaging.slicing import pad_missing_slices
from slicewise.inference.postprocess import Postprocessing, whole_case
from slicewise.metrics.confusion import Overlap, PixelCounts, count_classes, count_overlap
from slicewise.metrics.lesions import Lesions, find_lesions
from slicewise.metrics.surface_distance import SurfaceDistances, surface_distances
from slicewise.metrics.table import MaskPairs, mask_scores

_MM3_PER_ML: Final = 1000.0


class ClassMasks(NamedTuple):
    """Reference and prediction of one class in one case of S slices."""

    overlap: Overlap
    """[S]"""
    contours: Sequence[SurfaceDistances] | None
    """[S] in pixels; None where surfaces were not requested"""
    surface: SurfaceDistances | None
    """Of the volume, in mm; None also where no pixel size is known"""
    lesions: Lesions | None
    """Of the volume; None likewise"""

    def pairs(self, pixel_mm: float | None, side: int, nsd_tolerance_mm: float) -> MaskPairs:
        """Return the masks of each slice."""
        in_mm = None
        if self.contours is not None and pixel_mm is not None:
            in_mm = [part.scaled(pixel_mm) for part in self.contours]
        return MaskPairs(
            **vars(self.overlap),
            contours=self.contours,
            surfaces=in_mm,
            side=side,
            nsd_tolerance_mm=nsd_tolerance_mm,
        )


@dataclass(frozen=True)
class ScoredCase:
    """The rows of one case of S slices, and what is pooled with the patient's other cases."""

    rows: tuple[SliceRow, ...]
    voxel_ml: float
    """NaN where it is unknown."""
    classes: Classes
    masks: Sequence[ClassMasks]
    """Of each class; empty without a mask."""
    cells: NDArray[np.int64] | None
    """[S, C, C] pixels by true and predicted class, the background first; None where there is no mask, and
    where classes may overlap."""
    packed_masks: NDArray[np.uint8]
    """[S, K, bytes] the predicted masks, eight pixels to a byte; figures are drawn from them later."""
    tumour_probability: float
    """Of the whole case, calibrated; of several classes that of the called one."""
    called: int
    """Number of the class that the whole case is called."""
    uncertain: bool
    """Whether its probability is within the band of uncertain ones."""
    slice_classes: Classes

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
    classes: Classes = TUMOUR
    """Of a pixel"""
    pixels: Mapping[str, PixelCounts] = field(default_factory=dict, compare=False)
    """All masks of each source together"""
    cells: Mapping[SliceKey, NDArray[np.int64]] = field(default_factory=dict, compare=False)
    """As in `ScoredCase`"""
    slice_classes: Classes = TUMOUR_OR_NOT

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
    predicted = case.predicted(postprocessing)
    probability = postprocessing.probabilities(case.class_probability)
    called, uncertain = postprocessing.call(probability), postprocessing.is_uncertain(probability)
    size, side, tolerance = case.pixel_mm, predicted.shape[-1], settings.nsd_tolerance_mm
    masks, cells, union = _measure(case, predicted, surfaces=surfaces) if case.has_mask else ((), None, None)
    pairs = [each.pairs(size, side, tolerance) for each in masks]
    scores = mask_scores(pairs, cells, case.classes, len(case.keys), "slice")
    columns = [f"{PROBABILITY}{name}" for name in case.slice_classes.with_absence]
    shares = [dict(zip(columns, each.tolist(), strict=True)) if each.ndim else {} for each in probability]
    rows = [
        SliceRow(
            *(key.source, key.patient, key.case, key.index, case.group),
            asked=case.included is None or bool(case.included[place]),
            label=int(case.labels[place]),
            probability=float(probability[place].max()),
            predicted=int(called[place]),
            uncertain=bool(uncertain[place]),
            reference_pixels=int(union.reference[place]) if union else None,
            predicted_pixels=int(np.count_nonzero(predicted[place].any(axis=0))),
            common_pixels=int(union.common[place]) if union else None,
            num_pixels=side * side,
            scores={**scores[place], **shares[place]},
        )
        for place, key in enumerate(case.keys)
    ]
    voxel_ml = math.nan if size is None else size**2 * case.slice_mm / _MM3_PER_ML
    packed = np.packbits(predicted.reshape(*predicted.shape[:2], -1), axis=2)
    whole = whole_case(probability if case.included is None else probability[case.included])
    result = float(whole.max()), int(postprocessing.call(whole)), bool(postprocessing.is_uncertain(whole))
    return ScoredCase(tuple(rows), voxel_ml, case.classes, masks, cells, packed, *result, case.slice_classes)


def _measure(
    case: CaseOutput, predicted: NDArray[np.bool_], *, surfaces: bool
) -> tuple[Sequence[ClassMasks], NDArray[np.int64] | None, Overlap]:
    """Return what `ScoredCase` has of the masks, and the overlap of all classes as one."""
    reference, size = case.reference, case.pixel_mm
    masks = []
    for truths, guesses in zip(reference.swapaxes(0, 1), predicted.swapaxes(0, 1), strict=True):
        contours = surface = lesions = None
        if surfaces:
            contours = [surface_distances(*pair, (1.0, 1.0)) for pair in zip(truths, guesses, strict=True)]
            if size is not None:
                truth, guess = (pad_missing_slices(each, case.indices) for each in (truths, guesses))
                surface = surface_distances(truth, guess, (case.slice_mm, size, size))
                lesions = find_lesions(truth, guess, (case.slice_mm, size, size))
        masks.append(ClassMasks(count_overlap(truths, guesses), contours, surface, lesions))
    cells = None
    if case.classes.exclusive or not case.classes.several:
        truth_numbers, numbers = (case.classes.numbers(each, axis=1) for each in (reference, predicted))
        cells = count_classes(truth_numbers, numbers, len(case.classes.with_absence))
    return masks, cells, count_overlap(reference.any(axis=1), predicted.any(axis=1))


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
    classes = scored[0].classes if scored else TUMOUR
    counted = [(case.rows, case.cells) for case in scored if case.cells is not None]
    cells = {row.key: own for part in counted for row, own in zip(*part, strict=True)}
    return EvaluationResult(
        tuple(rows),
        patients,
        settings,
        seed,
        classes=classes,
        pixels=_count_pixels(scored),
        cells=cells,
        slice_classes=scored[0].slice_classes if scored else TUMOUR_OR_NOT,
    )


def _count_pixels(scored: Sequence[ScoredCase]) -> dict[str, PixelCounts]:
    """Return the pixels of the masks of each source."""
    pixels: dict[str, PixelCounts] = {}
    for case in scored:
        if case.has_mask:
            counts = [[column.sum() for column in vars(each.overlap).values()] for each in case.masks]
            cells = None if case.cells is None else case.cells.sum(axis=0)
            own = PixelCounts(Overlap(*np.transpose(counts)), cells)
            source = case.rows[0].source
            pixels[source] = pixels[source] + own if source in pixels else own
    return pixels


def _pool_patient(cases: list[ScoredCase], settings: Evaluation) -> PatientRow:
    rows = [row for case in cases for row in case.rows]
    masked, classes = [case for case in cases if case.has_mask], cases[0].classes
    numbers = range(len(classes)) if masked else ()
    pairs = [_pair_masks(masked, number, settings.nsd_tolerance_mm) for number in numbers]
    volumes = (
        sum(case.voxel_ml * sum(row.reference_pixels or 0 for row in case.rows) for case in masked),
        sum(case.voxel_ml * sum(row.predicted_pixels for row in case.rows) for case in masked),
    )
    reference_ml, predicted_ml = (float(v) if masked and math.isfinite(v) else None for v in volumes)
    surest = max(cases, key=lambda case: case.tumour_probability)
    return PatientRow(
        *(rows[0].source, rows[0].patient, rows[0].group, len(cases), len(rows)),
        num_tumour_slices=sum(row.label > 0 for row in rows),
        slice_accuracy=sum(row.right for row in rows) / len(rows),
        top_probability=max(row.probability for row in rows),
        tumour_probability=surest.tumour_probability,
        called=surest.called,
        uncertain=surest.uncertain,
        reference_ml=reference_ml,
        predicted_ml=predicted_ml,
        empty_reference=not any(row.reference_pixels for case in masked for row in case.rows)
        if masked
        else None,
        scores=mask_scores(pairs, _pooled_cells(masked), classes, 1, "slice", "patient")[0],
    )


def _pooled_cells(cases: Sequence[ScoredCase]) -> NDArray[np.int64] | None:
    """Return the confusion matrix of all slices, [1, C, C]."""
    cells = [case.cells for case in cases if case.cells is not None]
    return np.concatenate(cells).sum(axis=0, keepdims=True) if cells else None


def _pair_masks(cases: list[ScoredCase], number: int, nsd_tolerance_mm: float) -> MaskPairs:
    """Return the masks of all slices of a patient as one pair; the surfaces are those of the volumes.

    `number` is that of the class, from 0 on.
    """
    masks = [case.masks[number] for case in cases]
    counts = np.array([[column.sum() for column in vars(each.overlap).values()] for each in masks])
    voxels_ml = np.array([case.voxel_ml for case in cases])
    contours = [part for each in masks for part in each.contours or ()]
    surfaces = [each.surface for each in masks if each.surface is not None]
    lesions = [each.lesions for each in masks if each.lesions is not None]
    reference, predicted, common, total = counts.sum(axis=0)[:, None]
    return MaskPairs(
        *(reference, predicted, common, total),
        contours=[SurfaceDistances.pooled(contours)] if contours else None,
        surfaces=[SurfaceDistances.pooled(surfaces)] if len(surfaces) == len(cases) else None,
        side=math.isqrt(cases[0].rows[0].num_pixels),
        nsd_tolerance_mm=nsd_tolerance_mm,
        reference_ml=float(sum(voxels_ml * counts[:, 0])),
        predicted_ml=float(sum(voxels_ml * counts[:, 1])),
        lesions=Lesions.pooled(lesions) if len(lesions) == len(cases) else None,
        same_voxels=len(cases) == 1,
    )
