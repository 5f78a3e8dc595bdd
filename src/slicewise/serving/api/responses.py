"""From a `Prediction` to the fields of the API's responses."""

import base64
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from slicewise.domain.labels import SYNTHETIC_WARNING, Task
from slicewise.imaging.io.image2d import to_quick_png
from slicewise.inference.operating_points import OperatingPoint
from slicewise.inference.prediction import Prediction
from slicewise.inference.uncertainty import Spread
from slicewise.plots.slices import Picture
from slicewise.serving.api import schemas
from slicewise.serving.api.findings import Finding
from slicewise.serving.api.input_files import RequestInput
from slicewise.serving.api.layers import Layer, LayerRenderer

NUM_KEY_SLICES: Final = 3


def operating_info(point: OperatingPoint, tasks: Sequence[Task]) -> schemas.OperatingInfo:
    """Return the thresholds and their origin."""
    postprocessing = point.postprocessing
    return schemas.OperatingInfo(
        class_threshold=postprocessing.class_threshold,
        mask_threshold=postprocessing.mask_threshold,
        class_mask_thresholds={name: rule.mask_threshold for name, rule in postprocessing.by_class},
        calibrated=point.calibrated,
        decision=postprocessing.describe(tasks),
        origin=point.origin,
    )


def common_fields(prediction: Prediction, started: float, inputs: RequestInput) -> dict[str, Any]:
    """Return the fields of `Examination`; `started` is a time of `time.perf_counter`."""
    return {
        "tumour_probability": prediction.tumour_probability,
        "label": prediction.predicted_class,
        "verdict": prediction.verdict,
        "uncertain_band": _uncertain_band(prediction),
        "lesions": _lesions(prediction),
        "class_probabilities": prediction.class_probabilities,
        "tasks": [*prediction.tasks],
        "mask_classes": [*prediction.classes.several],
        "mask_exclusive": prediction.classes.exclusive,
        "synthetic": prediction.synthetic,
        "warning": SYNTHETIC_WARNING if prediction.synthetic else None,
        "note": "; ".join(inputs.notes) or None,
        "file_notes": list(inputs.notes),
        "warnings": [*prediction.doubts, *(note for note in inputs.notes if note not in inputs.remarks)],
        **operating_info(prediction.point, prediction.tasks).model_dump(),
        "modalities": list(prediction.modalities),
        "seconds": round(time.perf_counter() - started, 3),
        "fingerprint": prediction.fingerprint,
    }


def _uncertain_band(prediction: Prediction) -> tuple[float, float] | None:
    postprocessing = prediction.point.postprocessing
    has_band = prediction.whole is not None and postprocessing.uncertain_band > 0
    return postprocessing.uncertain_interval if has_band else None


def _lesions(prediction: Prediction) -> dict[str, schemas.Lesions]:
    voxel_ml = prediction.voxel_ml
    return {
        name: schemas.Lesions(
            count=len(sizes), voxels=sizes, ml=voxel_ml and [size * voxel_ml for size in sizes]
        )
        for name, sizes in prediction.lesions.items()
    }


def links(finding: Finding) -> dict[str, Any]:
    """Return the fields of `Links`."""
    volume, root = finding.volume, f"/results/{finding.key}"
    suffix = "png" if finding.inputs.is_picture else "nii.gz"
    sent = [name for name, here in zip(volume.channels, volume.presence, strict=True) if here]
    images = {name: f"{root}/image/{name}.nii.gz" for name in sent}
    has_masks = finding.prediction.slice_masks is not None
    return {
        "id": finding.key,
        "image_urls": {"image": f"{root}/image.png"} if finding.inputs.is_picture else images,
        "mask_url": f"{root}/mask.{suffix}" if has_masks else None,
        "probability_url": f"{root}/probability.{suffix}" if has_masks else None,
    }


def slice_curve(finding: Finding) -> list[schemas.SliceExamination]:
    """Return the probability of tumour, or of the called class, of each slice, and the tumour areas."""
    prediction = finding.prediction
    areas: Sequence[float | None] = [None] * len(finding.renderer.image)
    if prediction.mask is not None and prediction.spacing is not None:
        _, row_mm, col_mm = prediction.spacing
        areas = (prediction.mask.sum(axis=(1, 2)) * row_mm * col_mm).tolist()
    probabilities = _slice_probabilities(finding)
    return [
        schemas.SliceExamination(index=index, probability=probabilities.get(index), tumour_mm2=area)
        for index, area in enumerate(areas)
    ]


def volumetry(finding: Finding) -> dict[str, Any]:
    """Return the fields of `Volumetry`."""
    slices = slice_curve(finding)
    return {
        "tumour_ml": finding.prediction.volume_ml,
        "class_ml": finding.prediction.class_volumes_ml,
        "num_slices": len(slices),
        "largest_slice": _largest(slices) if any(each.tumour_mm2 for each in slices) else None,
        "slices": slices,
    }


def picture_examination(
    finding: Finding, layers: LayerRenderer, started: float, *, gradcam: bool
) -> schemas.PictureExamination:
    """Return the response to /predict for a picture."""
    mask = finding.prediction.mask
    return schemas.PictureExamination(
        tumour_share=tumour_share(finding),
        picture_png=_base64_png(finding.renderer.render(0)),
        mask_png=None if mask is None else _base64_png(mask[0] * np.uint8(255)),
        overlay_png=layer_png(finding, layers, 0, "overlay"),
        gradcam_png=layer_png(finding, layers, 0, "gradcam") if gradcam else None,
        **links(finding),
        **common_fields(finding.prediction, started, finding.inputs),
    )


def volume_examination(
    finding: Finding, layers: LayerRenderer, started: float, *, gradcam: bool
) -> schemas.VolumeExamination:
    """Return the response to /predict for a volume."""
    fields = volumetry(finding)
    slices = fields["slices"]
    key_slices = [
        schemas.KeySlice(
            **slices[index].model_dump(),
            overlay_png=layer_png(finding, layers, index, "overlay"),
            gradcam_png=layer_png(finding, layers, index, "gradcam") if gradcam else None,
        )
        for index in key_slice_indices(finding, slices)
    ]
    return schemas.VolumeExamination(
        key_slices=key_slices,
        **fields,
        **links(finding),
        **common_fields(finding.prediction, started, finding.inputs),
    )


def classification(finding: Finding, started: float) -> schemas.Classification:
    """Return the response to /classify."""
    return schemas.Classification(**_classification_fields(finding, started))


def gradcam_classification(
    finding: Finding, layers: LayerRenderer, started: float
) -> schemas.GradCamClassification:
    """Return the response to /classify/gradcam."""
    index = most_probable_slice(finding)
    png = layer_png(finding, layers, index, "gradcam")
    assert png is not None
    fields = _classification_fields(finding, started)
    return schemas.GradCamClassification(gradcam_slice=index, gradcam_png=png, **fields)


def segmentation(finding: Finding, started: float) -> schemas.Segmentation:
    """Return the response to /segment."""
    is_picture = finding.inputs.is_picture
    return schemas.Segmentation(
        kind="picture" if is_picture else "volume",
        tumour_share=tumour_share(finding) if is_picture else None,
        **volumetry(finding),
        **links(finding),
        **common_fields(finding.prediction, started, finding.inputs),
    )


def uncertainty(finding: Finding, spread: Spread, started: float) -> schemas.Uncertainty:
    """Return the response to /segment/uncertainty."""
    columns = {**spread.columns(), "passes": spread.num_passes}
    deviation = spread.mask_deviation
    largest = 0.0 if deviation is None or not deviation.size else float(deviation.max())
    fields = segmentation(finding, started).model_dump()
    return schemas.Uncertainty(**fields, **columns, largest_deviation=largest)


def most_probable_slice(finding: Finding) -> int:
    """Return the index of the slice with the highest probability of tumour, or of the called class."""
    slices = _slice_probabilities(finding)
    return max(slices, key=lambda index: slices[index]) if slices else 0


def _classification_fields(finding: Finding, started: float) -> dict[str, Any]:
    probabilities = _slice_probabilities(finding)
    return {
        "kind": "picture" if finding.inputs.is_picture else "volume",
        "slices": [
            schemas.SliceProbability(index=index, probability=probabilities.get(index))
            for index in range(len(finding.renderer.image))
        ],
        **common_fields(finding.prediction, started, finding.inputs),
    }


def _slice_probabilities(finding: Finding) -> dict[int, float]:
    """Return the probability of tumour, or of the called class, by slice; none without classification."""
    prediction, shares = finding.prediction, finding.prediction.probabilities
    if shares is None:
        return {}
    if prediction.whole is not None and prediction.whole.ndim:
        shares = shares[:, int(prediction.whole.argmax())]
    return dict(zip(prediction.slices.indices.tolist(), shares.tolist(), strict=True))


def tumour_share(finding: Finding) -> float | None:
    """Return the tumour pixels of a picture over its brain pixels."""
    prediction = finding.prediction
    if prediction.slice_mask is None:
        return None
    brain = np.count_nonzero(np.any(prediction.slices.images != 0, axis=1))
    return float(prediction.slice_mask.sum() / max(1, brain))


def key_slice_indices(finding: Finding, slices: Sequence[schemas.SliceExamination]) -> list[int]:
    """Return the slice with the largest tumour area and others spread over the tumour.

    Without a mask: the slice with the highest probability; without any, the middle input slice.
    """
    with_tumour = [each.index for each in slices if each.tumour_mm2]
    if with_tumour:
        shares = (np.arange(NUM_KEY_SLICES - 1) + 0.5) / (NUM_KEY_SLICES - 1)
        spread = {with_tumour[int(share * len(with_tumour))] for share in shares}
        return sorted(spread | {_largest(slices)})
    probabilities = {each.index: each.probability for each in slices if each.probability is not None}
    if probabilities:
        return [max(probabilities, key=probabilities.__getitem__)]
    indices: list[int] = finding.prediction.slices.indices.tolist()
    return indices[len(indices) // 2 :][:1]


def layer_png(finding: Finding, layers: LayerRenderer, index: int, layer: Layer) -> str | None:
    """Return a slice with a layer as PNG in base64 (RFC 4648); None where the model lacks its task."""
    picture = layers.draw(finding, index, layer)
    return None if picture is None else _base64_png(picture)


def _largest(slices: Sequence[schemas.SliceExamination]) -> int:
    """Return the index of the slice with the largest tumour area."""
    return max(slices, key=lambda each: each.tumour_mm2 or 0.0).index


def _base64_png(picture: Picture) -> str:
    return base64.b64encode(to_quick_png(picture)).decode()
