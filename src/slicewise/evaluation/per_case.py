"""Predictions and labels of one case, and the scores of its slices; None where a score is undefined."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import Scores, SliceRow
from slicewise.imaging.geometry import pad_missing_slices
from slicewise.inference.postprocess import Postprocessing, tumour_probability
from slicewise.metrics.confusion import count_overlap
from slicewise.metrics.surface_distance import Bools, SurfaceDistances, surface_distances
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
        lengths = {
            len(self.keys), len(self.mask_probability), len(self.class_probability), len(self.labels)
        }  # fmt: skip
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
    def voxel_ml(self) -> float | None:
        return None if self.pixel_mm is None else self.pixel_mm**2 * self.slice_mm / _MM3_PER_ML


@dataclass(frozen=True)
class PackedMasks:
    """The predicted masks of a case, eight pixels to a byte, from which figures are drawn later."""

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
class CaseBorders:
    """Border distances of one case: of each slice in pixels, of the volume in mm where sizes are known."""

    slices: tuple[SurfaceDistances, ...]
    volume: SurfaceDistances | None
    side: int


@dataclass(frozen=True)
class ScoredCase:
    """The rows of one case and what is pooled with the patient's other cases."""

    rows: tuple[SliceRow, ...]
    voxel_ml: float | None
    borders: CaseBorders | None
    """None without a mask, or where surfaces were not requested."""
    predicted: PackedMasks
    tumour_probability: float
    """Of the whole case, calibrated."""
    called: bool
    """Whether the whole case is called tumour."""

    @property
    def has_mask(self) -> bool:
        return any(row.reference_pixels is not None for row in self.rows)


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
    pairs = None
    if overlap is not None:
        contours = borders.slices if borders else None
        in_mm = None
        if contours is not None and case.pixel_mm is not None:
            in_mm = [part.scaled(case.pixel_mm) for part in contours]
        pairs = MaskPairs(
            *overlap, contours, in_mm, side=reference.shape[-1], nsd_tolerance_mm=settings.nsd_tolerance_mm
        )
    scores = mask_scores(pairs, len(case.keys), "slice")
    rows = [
        SliceRow(
            source=key.source,
            patient=key.patient,
            case=key.case,
            index=key.index,
            group=case.group,
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
    whole = tumour_probability(probability if case.included is None else probability[case.included])
    packed = PackedMasks.of(predicted)
    return ScoredCase(
        tuple(rows), case.voxel_ml, borders, packed, whole, whole >= postprocessing.class_threshold
    )


def measure_borders(case: CaseOutput, reference: Bools, predicted: Bools) -> CaseBorders:
    """Return the border distances of two masks [S, N, N], slice by slice and as a volume."""
    pairs = zip(reference, predicted, strict=True)
    slices = tuple(surface_distances(*pair, (1.0, 1.0)) for pair in pairs)
    volume = None
    if case.pixel_mm is not None:
        truth, guess = (pad_missing_slices(masks, case.indices) for masks in (reference, predicted))
        volume = surface_distances(truth, guess, (case.slice_mm, case.pixel_mm, case.pixel_mm))
    return CaseBorders(slices, volume, reference.shape[-1])


def mask_scores(pairs: MaskPairs | None, num_pairs: int, *levels: Level) -> list[Scores]:
    """Return the metrics of each pair of masks; all None without masks."""
    nothing = np.full(num_pairs, np.nan)
    columns = {
        metric.name: nothing if pairs is None else metric.of_masks(pairs) for metric in metrics_of(*levels)
    }
    return [
        {name: float(value[place]) if np.isfinite(value[place]) else None for name, value in columns.items()}
        for place in range(num_pairs)
    ]
