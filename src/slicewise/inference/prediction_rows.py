"""Predictions as rows of tables: one per case, and one per slice of a volume."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.tables import PROBABILITY
from slicewise.inference.postprocess import component_sizes

if TYPE_CHECKING:
    from slicewise.inference.prediction import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRow:
    """One case in a table: its prediction, the thresholds, and where the mask is; or the error."""

    case: str
    path: str
    kind: str | None
    modalities: str | None = None
    mask: str | None = None
    """File or folder beside the table"""
    overlay: str | None = None
    """The picture with its mask, likewise"""
    probability_maps: str | None = None
    """Likewise"""
    uncertainty: str | None = None
    """Likewise"""
    dicom_seg: str | None = None
    """The mask as DICOM-SEG, likewise; only of cases read from DICOM"""
    verdict: str | None = None
    """The name of the predicted class: `tumour`, `no_tumour`, or one of several; or `uncertain`"""
    predicted_class: str | None = None
    """The same without `uncertain`"""
    tumour_probability: float | None = None
    """Calibrated or raw; a tumour is predicted from `class_threshold` on. None with several classes"""
    class_threshold: float | None = None
    uncertain_low: float | None = None
    uncertain_high: float | None = None
    """Between these probabilities the verdict is `uncertain`. None with several classes"""
    calibrated: bool | None = None
    volume_ml: float | None = None
    num_lesions: int | None = None
    """Connected parts of the mask of all classes; see `Prediction.lesions`"""
    largest_lesion_ml: float | None = None
    mask_threshold: float | None = None
    chosen: str | None = None
    """Where thresholds and calibration come from"""
    synthetic: bool
    fingerprint: str
    doubts: str | None = None
    """What speaks against the case: no brain MRI, other patients, a skull. Empty where nothing does"""
    note: str | None = None
    """Warnings about the files"""
    error: str | None = None
    """Why there is no prediction; the columns of one are empty then"""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Of several classes of pixels `volume_ml_<class>`, `num_lesions_<class>`, and `mask_threshold_<class>`
    where each has its own; of slices `probability_<class>`"""

    def to_json(self) -> dict[str, Any]:
        """Return the columns by name."""
        columns = asdict(self)
        scores = columns.pop("scores")
        return {**columns, **scores}


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedSlice:
    """One slice of a volume."""

    case: str
    index: int
    """From 0 on, from the feet to the head"""
    included: bool
    """False for a slice with too little brain, which the model does not see"""
    probability: float | None = None
    """Of tumour; of several classes that of the predicted one. None where the model does not classify"""
    predicted_class: str | None = None
    area_mm2: float | None = None
    """Of the masks of all classes; None where the files do not give the size of their pixels"""
    pixels: int | None = None
    """Likewise, on the grid of the files"""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Of several classes of pixels `area_mm2_<class>`; of slices `probability_<class>`"""


def prediction_row(
    prediction: "Prediction", scores: Mapping[str, float | None] | None = None, **names: str | None
) -> PredictionRow:
    """Return the row of a case with further scores; `names` of files: its columns `mask` and so on."""
    files, post = prediction.files, prediction.point.postprocessing
    path = None if files is None else files.images[0] if len(files.images) == 1 else files.folder
    is_classified, lesions = prediction.verdict is not None, prediction.lesions
    low, high = (is_classified and post.uncertain_interval) or (None, None)
    sizes = None if prediction.mask is None else component_sizes(prediction.mask)
    largest = max(sizes, default=0) if sizes is not None else None
    return PredictionRow(
        case=prediction.case,
        path=str(path or ""),
        kind=prediction.kind,
        modalities=" ".join(prediction.modalities),
        **names,
        verdict=prediction.verdict,
        predicted_class=prediction.predicted_class,
        tumour_probability=prediction.tumour_probability,
        class_threshold=post.class_threshold if is_classified else None,
        uncertain_low=low,
        uncertain_high=high,
        calibrated=prediction.point.calibrated if is_classified else None,
        volume_ml=prediction.volume_ml,
        num_lesions=None if sizes is None else len(sizes),
        largest_lesion_ml=None
        if largest is None or prediction.voxel_ml is None
        else largest * prediction.voxel_ml,
        mask_threshold=None if prediction.mask is None else post.mask_threshold,
        chosen=prediction.point.origin,
        synthetic=prediction.synthetic,
        fingerprint=prediction.fingerprint,
        doubts="; ".join(prediction.doubts) or None,
        note=prediction.note,
        scores={
            **{f"volume_ml_{name}": volume for name, volume in prediction.class_volumes_ml.items()},
            **{f"num_lesions_{name}": len(lesions.get(name, ())) for name in prediction.class_volumes_ml},
            **{f"mask_threshold_{name}": rule.mask_threshold for name, rule in post.by_class},
            **{f"{PROBABILITY}{name}": share for name, share in prediction.class_probabilities.items()},
            **(prediction.spread.columns() if prediction.spread else {}),
            **(scores or {}),
        },
    )


def slice_rows(prediction: "Prediction") -> Iterator[PredictedSlice]:
    """Yield a row for each slice of a volume, those that the model does not see included."""
    spacing, num_slices = prediction.spacing, prediction.slices.geometry.shape[0]
    has_sizes = prediction.orientation is not None and spacing is not None
    pixel_mm2 = spacing[1] * spacing[2] if has_sizes and spacing else None
    classes = prediction.classes.several
    counts = _count_pixels(prediction.masks, num_slices)
    unions = _count_pixels(None if prediction.mask is None else prediction.mask[None], num_slices)
    slices = prediction.slices
    places = {index: place for place, index in enumerate(slices.indices.tolist()) if slices.included[place]}
    for index, (own, (union,)) in enumerate(zip(counts, unions, strict=True)):
        areas = [
            None if number is None or pixel_mm2 is None else number * pixel_mm2 for number in (union, *own)
        ]
        name, probability, shares = _slice_class(prediction, places.get(index))
        by_class = {
            f"area_mm2_{each}": areas[place]
            for place, each in enumerate(classes, start=1)
            if union is not None
        }
        yield PredictedSlice(
            case=prediction.case,
            index=index,
            included=index in places,
            probability=probability,
            predicted_class=name,
            area_mm2=areas[0],
            pixels=union,
            scores={**by_class, **shares},
        )


def _count_pixels(masks: NDArray[np.bool_] | None, num_slices: int) -> Sequence[Sequence[int | None]]:
    """Return the pixels of each class in each slice, from masks [K, slice, row, col]."""
    if masks is None:
        return [[None]] * num_slices
    counts: list[list[int | None]] = np.count_nonzero(masks, axis=(2, 3)).T.tolist()
    return counts


def _slice_class(
    prediction: "Prediction", place: int | None
) -> tuple[str | None, float | None, dict[str, float]]:
    """Return the predicted class of a slice, its probability, and those of several classes."""
    probabilities, calls = prediction.probabilities, prediction.slice_calls
    if probabilities is None or calls is None or place is None:
        return None, None, {}
    names, own, called = prediction.slice_classes.with_absence, probabilities[place], int(calls[place])
    if not own.ndim:
        return names[called], float(own), {}
    columns = [f"{PROBABILITY}{name}" for name in names]
    return names[called], float(own[called]), dict(zip(columns, own.tolist(), strict=True))
