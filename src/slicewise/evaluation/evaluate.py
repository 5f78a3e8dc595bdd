"""From the network's answers and the truth to the two tables; case by case, so that memory holds one case."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import PatientRow, SliceRow
from slicewise.evaluation.per_case import CaseBorders, measure_borders, patient_scores, slice_scores
from slicewise.inference.postprocess import Postprocessing, tumour_probability
from slicewise.metrics.confusion import Overlap, count_overlap

_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class CaseOutput:
    """One case of S slices as it left the network, beside the truth."""

    keys: Sequence[SliceKey]
    group: str
    """What stays on one side of the split: the patient, or a family of near-identical pictures."""
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
    seen: NDArray[np.bool_] | None = None
    """[S], False where a slice has too little brain to be asked about; None: all were."""

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
    def indices(self) -> list[int]:
        """Which slice of the volume each slice is."""
        return [key.index for key in self.keys]

    @property
    def voxel_ml(self) -> float | None:
        return None if self.pixel_mm is None else self.pixel_mm**2 * self.slice_mm / _MM3_PER_ML


@dataclass(frozen=True)
class PackedMasks:
    """The predicted masks of a case, eight pixels to a byte: pictures are drawn from them later."""

    bits: NDArray[np.uint8]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, masks: NDArray[np.bool_]) -> Self:
        return cls(np.packbits(masks.reshape(len(masks), -1), axis=1), masks.shape)

    def __getitem__(self, place: int) -> NDArray[np.bool_]:
        """Return the mask [N, N] of one slice."""
        size = self.shape[1] * self.shape[2]
        return np.unpackbits(self.bits[place], count=size).astype(np.bool_).reshape(self.shape[1:])


@dataclass(frozen=True)
class ScoredCase:
    """The rows of one case and what is pooled with the patient's other cases."""

    rows: tuple[SliceRow, ...]
    voxel_ml: float | None
    borders: CaseBorders | None
    """None where there is no mask, or nobody asked."""
    predicted: PackedMasks
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
    not_trained: tuple[str, ...] = ()
    """Tasks that the network never learned; the answers to them mean nothing."""


def evaluate_slices(
    cases: Iterable[CaseOutput], settings: Evaluation, seed: int, *, surfaces: bool = True
) -> EvaluationResult:
    """Score every slice with the configured thresholds and pool the slices of each patient.

    Args:
        cases: consumed one by one; a generator keeps memory at one case.
        settings: thresholds, and what the summary needs for its intervals.
        seed: of the bootstrap draws.
        surfaces: measure borders too; without it their columns stay empty, and it is done sooner.

    Raises:
        ValueError: a slice comes twice, or arrays of a case differ in length.
    """
    postprocessing = Postprocessing.configured(settings)
    scored = [score_case(case, settings, postprocessing, surfaces=surfaces) for case in cases]
    return pool_cases(scored, settings, seed)


def pool_cases(scored: Sequence[ScoredCase], settings: Evaluation, seed: int) -> EvaluationResult:
    """Return the tables of cases that are scored.

    Raises:
        ValueError: a slice comes twice.
    """
    rows = sorted((row for case in scored for row in case.rows), key=lambda row: row.key)
    _require_unique(rows)
    return EvaluationResult(tuple(rows), tuple(pool_patients(scored, settings)), settings, seed)


def score_case(
    case: CaseOutput, settings: Evaluation, postprocessing: Postprocessing, *, surfaces: bool = True
) -> ScoredCase:
    """Return one row per slice of a case, in the order given, and what its patient is scored from."""
    predicted = postprocessing.masks(case.mask_probability, case.class_probability, case.indices)
    probability = postprocessing.probabilities(case.class_probability)
    called = probability >= postprocessing.class_threshold
    reference = case.masks > 0
    overlap = count_overlap(reference, predicted) if case.has_mask else None
    borders = measure_borders(case, reference, predicted) if surfaces and case.has_mask else None
    scores = slice_scores(overlap, borders, settings.nsd_tolerance_mm, len(case.keys))
    rows = [
        SliceRow(
            source=key.source,
            patient=key.patient,
            case=key.case,
            index=key.index,
            group=case.group,
            asked=case.seen is None or bool(case.seen[place]),
            label=int(case.labels[place]),
            probability=float(probability[place]),
            predicted=int(called[place]),
            reference_pixels=int(overlap.reference[place]) if overlap else None,
            predicted_pixels=int(np.count_nonzero(predicted[place])),
            common_pixels=int(overlap.common[place]) if overlap else None,
            num_pixels=predicted[place].size,
            **scores[place],
        )
        for place, key in enumerate(case.keys)
    ]
    whole = tumour_probability(probability if case.seen is None else probability[case.seen])
    packed = PackedMasks.of(predicted)
    return ScoredCase(
        tuple(rows), case.voxel_ml, borders, packed, whole, whole >= postprocessing.class_threshold
    )


def pool_patients(cases: Sequence[ScoredCase], settings: Evaluation) -> list[PatientRow]:
    """Return one row per patient, sorted; the cases of a patient are scored as one."""
    patients: dict[tuple[str, str], list[ScoredCase]] = {}
    for case in cases:
        if case.rows:
            patients.setdefault((case.rows[0].source, case.rows[0].patient), []).append(case)
    return [_pool_patient(own, settings) for _, own in sorted(patients.items())]


def _pool_patient(cases: list[ScoredCase], settings: Evaluation) -> PatientRow:
    rows = [row for case in cases for row in case.rows]
    masked = [case for case in cases if case.has_mask]
    overlap = _pool_overlap([row for case in masked for row in case.rows])
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


def _pool_overlap(rows: list[SliceRow]) -> Overlap:
    table = [
        (row.reference_pixels or 0, row.predicted_pixels, row.common_pixels or 0, row.num_pixels)
        for row in rows
    ]
    return Overlap(*np.array(table, dtype=np.int64).reshape(-1, 4).sum(axis=0))


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
    """Of one case the ratio needs no voxel size; of several with unknown sizes there is none."""
    if overlap.reference == 0:
        return None
    if reference_ml is None or predicted_ml is None:
        return float(overlap.predicted / overlap.reference) - 1 if len(cases) == 1 else None
    return predicted_ml / reference_ml - 1


def _require_unique(rows: list[SliceRow]) -> None:
    for one, other in pairwise(rows):
        if one.key == other.key:
            raise ValueError(f"slice {one.key} was evaluated twice; each test case must come once")
