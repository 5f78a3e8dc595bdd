"""Slice and patient tables of an evaluation, case by case, so that memory holds one case.

A score is None where it is undefined.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.domain.classes import TUMOUR, Classes
from slicewise.domain.keys import SliceKey
from slicewise.domain.labels import TASKS
from slicewise.domain.tables import PatientRow, Scores, SliceRow
from slicewise.evaluation.statistics import BootstrapSettings
from slicewise.imaging.slicing import pad_missing_slices
from slicewise.inference.postprocess import Postprocessing, tumour_probability
from slicewise.metrics import confusion
from slicewise.metrics.confusion import Overlap, PixelCounts, count_classes, count_overlap
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
    """[S, K, N, N] of K classes; of one also [S, N, N]"""
    class_probability: NDArray[np.float32]
    """[S]"""
    masks: NDArray[np.uint8] | NDArray[np.bool_]
    """Likewise; inside is anything but 0. Ignored without `has_mask`."""
    has_mask: bool
    labels: NDArray[np.int8]
    """[S]; 1 tumour, 0 none."""
    pixel_mm: float | None
    """Side of one pixel of the N x N slice; None where the files give no size, and volumes stay unknown."""
    slice_mm: float
    """Distance between slices."""
    included: NDArray[np.bool_] | None = None
    """[S], False for excluded slices (too little brain); None: all are included."""
    classes: Classes = TUMOUR
    """Of a pixel"""

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

    @property
    def probability(self) -> NDArray[np.float32]:
        """The probabilities of the pixels [S, K, N, N]."""
        return self._by_class(self.mask_probability)

    def predicted(self, postprocessing: Postprocessing) -> NDArray[np.bool_]:
        """Return the predicted masks [S, K, N, N]."""
        return postprocessing.masks(self.probability, self.class_probability, self.indices, self.classes)

    @property
    def reference(self) -> NDArray[np.bool_]:
        """The masks [S, K, N, N]."""
        return np.asarray(self._by_class(self.masks) != 0)

    def _by_class(self, values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(len(values), len(self.classes), *values.shape[-2:])


class ClassMasks(NamedTuple):
    """Reference and prediction of one class in one case of S slices."""

    overlap: Overlap
    """[S]"""
    contours: Sequence[SurfaceDistances] | None
    """[S] in pixels; None where surfaces were not requested"""
    surface: SurfaceDistances | None
    """Of the volume, in mm; None also where no pixel size is known"""

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
    where classes do not exclude each other."""
    packed_masks: NDArray[np.uint8]
    """[S, K, bytes] the predicted masks, eight pixels to a byte; figures are drawn from them later."""
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
    classes: Classes = TUMOUR
    """Of a pixel"""
    pixels: Mapping[str, PixelCounts] = field(default_factory=dict)
    """All masks of each source together, where there are several classes"""

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
    called = probability >= postprocessing.class_threshold
    size, side, tolerance = case.pixel_mm, predicted.shape[-1], settings.nsd_tolerance_mm
    masks, cells, union = _measure(case, predicted, surfaces=surfaces) if case.has_mask else ((), None, None)
    pairs = [each.pairs(size, side, tolerance) for each in masks]
    scores = _mask_scores(pairs, cells, case.classes, len(case.keys), "slice")
    rows = [
        SliceRow(
            *(key.source, key.patient, key.case, key.index, case.group),
            asked=case.included is None or bool(case.included[place]),
            label=int(case.labels[place]),
            probability=float(probability[place]),
            predicted=int(called[place]),
            reference_pixels=int(union.reference[place]) if union else None,
            predicted_pixels=int(np.count_nonzero(predicted[place].any(axis=0))),
            common_pixels=int(union.common[place]) if union else None,
            num_pixels=side * side,
            scores=scores[place],
        )
        for place, key in enumerate(case.keys)
    ]
    voxel_ml = math.nan if size is None else size**2 * case.slice_mm / _MM3_PER_ML
    packed = np.packbits(predicted.reshape(*predicted.shape[:2], -1), axis=2)
    whole = tumour_probability(probability if case.included is None else probability[case.included])
    is_tumour = whole >= postprocessing.class_threshold
    return ScoredCase(tuple(rows), voxel_ml, case.classes, masks, cells, packed, whole, is_tumour)


def _measure(
    case: CaseOutput, predicted: NDArray[np.bool_], *, surfaces: bool
) -> tuple[Sequence[ClassMasks], NDArray[np.int64] | None, Overlap]:
    """Return what `ScoredCase` has of the masks, and the overlap of all classes as one."""
    reference, size = case.reference, case.pixel_mm
    masks = []
    for truths, guesses in zip(reference.swapaxes(0, 1), predicted.swapaxes(0, 1), strict=True):
        contours = surface = None
        if surfaces:
            contours = [surface_distances(*pair, (1.0, 1.0)) for pair in zip(truths, guesses, strict=True)]
            if size is not None:
                truth, guess = (pad_missing_slices(each, case.indices) for each in (truths, guesses))
                surface = surface_distances(truth, guess, (case.slice_mm, size, size))
        masks.append(ClassMasks(count_overlap(truths, guesses), contours, surface))
    cells = None
    if case.classes.exclusive:
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
    return EvaluationResult(
        tuple(rows), patients, settings, seed, classes=classes, pixels=_count_pixels(scored, classes)
    )


def _count_pixels(scored: Sequence[ScoredCase], classes: Classes) -> dict[str, PixelCounts]:
    """Return the pixels of the masks of each source; nothing for a single class."""
    pixels: dict[str, PixelCounts] = {}
    for case in scored if classes.several else ():
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
    return PatientRow(
        *(rows[0].source, rows[0].patient, rows[0].group, len(cases), len(rows)),
        num_tumour_slices=sum(row.label for row in rows),
        slice_accuracy=sum(row.right for row in rows) / len(rows),
        top_probability=max(row.probability for row in rows),
        tumour_probability=max(case.tumour_probability for case in cases),
        called=int(any(case.called for case in cases)),
        reference_ml=reference_ml,
        predicted_ml=predicted_ml,
        empty_reference=not any(row.reference_pixels for case in masked for row in case.rows)
        if masked
        else None,
        scores=_mask_scores(pairs, _pooled_cells(masked), classes, 1, "slice", "patient")[0],
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
    reference, predicted, common, total = counts.sum(axis=0)[:, None]
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


def _mask_scores(
    pairs: Sequence[MaskPairs],
    cells: NDArray[np.int64] | None,
    classes: Classes,
    num_pairs: int,
    *levels: Level,
) -> list[Scores]:
    """Return the metrics of each pair of masks; all None without masks.

    Of several classes it is the mean over those where it is defined, or what their confusion matrices `cells`
    give, and beside it `<metric>_<class>`.
    """
    columns = {}
    for metric in metrics_of(*levels):
        values = [metric.of_masks(each) for each in pairs] or [np.full(num_pairs, np.nan)] * len(classes)
        columns[metric.name] = values[0]
        if classes.several:
            defined = np.isfinite(values).sum(axis=0)
            mean = confusion.ratio(np.nansum(values, axis=0), defined)
            columns[metric.name] = mean if cells is None or not metric.of_cells else metric.of_cells(cells)
            columns |= {f"{metric.name}_{name}": own for name, own in zip(classes.names, values, strict=True)}
    return [
        {name: float(value[place]) if np.isfinite(value[place]) else None for name, value in columns.items()}
        for place in range(num_pairs)
    ]
