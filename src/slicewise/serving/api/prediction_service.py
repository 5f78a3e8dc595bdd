"""Predicts volumes and pictures with one model, one at a time, and draws the results."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from slicewise.compute.threads import Threads
from slicewise.domain.labels import CLASSIFICATION, MODALITIES, NUM_MODALITIES, SEGMENTATION, Task
from slicewise.explain.cam import compute_gradcam
from slicewise.imaging.geometry import restore_to_volume
from slicewise.imaging.io.nifti import nifti_bytes
from slicewise.inference.operating_points import INPUT_KINDS, OperatingPoint, OperatingPoints
from slicewise.inference.prediction import SYNTHETIC_WARNING, untrained_note
from slicewise.inference.predictor import Predictor
from slicewise.plots.overlay import to_png
from slicewise.serving.api.errors import RequestError
from slicewise.serving.api.reader import RequestInput
from slicewise.serving.api.rendering import Picture, base64_png
from slicewise.serving.api.results import Result, ResultCache
from slicewise.serving.api.schemas import (
    KeySlice,
    ModelInfo,
    OperatingInfo,
    PictureExamination,
    SliceExamination,
    VolumeExamination,
)

Layer = Literal["plain", "overlay", "gradcam"]
NUM_KEY_SLICES: Final = 3
_TASK_OF_LAYER: Final[Mapping[Layer, Task]] = {"overlay": SEGMENTATION, "gradcam": CLASSIFICATION}


class PredictionService:
    """Returns predictions as API responses. Threads may share it.

    Args:
        predictor: the model.
        points: calibration, thresholds and post-processing of volumes and of pictures.
        num_threads: of the model; 0 selects automatically.
    """

    def __init__(self, predictor: Predictor, points: OperatingPoints, num_threads: int = 0) -> None:
        self.predictor = predictor
        self.checkpoint = predictor.checkpoint
        self.points = points
        self._results = ResultCache()
        self._threads = Threads.for_short_work(num_threads, "demo")
        self._model_lock = threading.Lock()

    def describe(self, max_upload_mib: int) -> ModelInfo:
        checkpoint = self.checkpoint
        return ModelInfo(
            fingerprint=checkpoint.fingerprint,
            stage=checkpoint.stage,
            model=checkpoint.model.model_dump(),
            preprocessing=checkpoint.preprocessing.model_dump(),
            class_names=list(checkpoint.class_names),
            metrics={name: value for name, value in checkpoint.metrics.items() if math.isfinite(value)},
            data_name=checkpoint.data_name,
            synthetic=checkpoint.synthetic,
            not_trained=list(checkpoint.not_trained),
            device=str(self.predictor.device),
            **self.predictor.inference._asdict(),
            operating_points={kind: _operating_info(self.points.of(kind)) for kind in INPUT_KINDS},
            max_upload_mib=max_upload_mib,
        )

    def predict(self, inputs: RequestInput, with_gradcam: bool) -> PictureExamination | VolumeExamination:
        """Return the prediction for an upload; only volumes have an orientation."""
        is_picture = inputs.volume.orientation is None
        return (self.predict_picture if is_picture else self.predict_volume)(inputs, with_gradcam)

    def predict_picture(self, inputs: RequestInput, with_gradcam: bool) -> PictureExamination:
        started = time.perf_counter()
        result = self._predict(inputs)
        return PictureExamination(
            tumour_share=result.tumour_share,
            picture_png=base64_png(result.renderer.render(0)),
            mask_png=None if result.mask is None else base64_png(result.mask[0] * np.uint8(255)),
            overlay_png=self._layer_png(result, 0, "overlay"),
            gradcam_png=self._layer_png(result, 0, "gradcam") if with_gradcam else None,
            **self._common_fields(result, started, inputs.notes),
        )

    def predict_volume(self, inputs: RequestInput, with_gradcam: bool) -> VolumeExamination:
        """Return the prediction for a volume; its result stays available under its id for a while."""
        started = time.perf_counter()
        result = self._predict(inputs)
        probabilities = result.probabilities()
        slices = [
            SliceExamination(index=index, probability=probabilities.get(index), tumour_mm2=area)
            for index, area in enumerate(result.areas_mm2())
        ]
        key_slices = [
            KeySlice(
                **slices[index].model_dump(),
                overlay_png=self._layer_png(result, index, "overlay"),
                gradcam_png=self._layer_png(result, index, "gradcam") if with_gradcam else None,
            )
            for index in result.key_slices(NUM_KEY_SLICES)
        ]
        key = self._results.add(result)
        return VolumeExamination(
            id=key,
            tumour_ml=result.tumour_ml,
            num_slices=result.num_slices,
            largest_slice=result.largest_slice(),
            slices=slices,
            key_slices=key_slices,
            mask_url=None if result.mask is None else f"/results/{key}/mask.nii.gz",
            **self._common_fields(result, started, inputs.notes),
        )

    def render_slice(self, key: str, index: int, layer: Layer) -> bytes:
        """Return one slice of a recent result as PNG.

        Raises:
            RequestError: 404 if the result is no longer available or has no such slice or layer.
        """
        result = self._get_result(key)
        if not 0 <= index < result.num_slices:
            raise RequestError(404, f"there is no slice {index}; the slices are 0 to {result.num_slices - 1}")
        _require_trained(layer, result)
        return to_png(self._layer(result, index, layer))

    def mask_nifti(self, key: str) -> bytes:
        """Return the mask of a recent result as .nii.gz on the grid of the upload.

        Raises:
            RequestError: 404 if the result is no longer available or has no mask.
        """
        result = self._get_result(key)
        _require_trained("overlay", result)
        assert result.orientation is not None  # results of pictures are not stored
        assert result.mask is not None
        return nifti_bytes(result.mask.astype(np.uint8), result.orientation, compressed=True)

    def warm_up(self) -> None:
        """Compute a Grad-CAM, whose first call imports slow modules, before the first request."""
        size = self.checkpoint.preprocessing.image_size
        blank = np.zeros((1, NUM_MODALITIES, size, size), np.float32)
        compute_gradcam(self.predictor.model, blank, np.ones(NUM_MODALITIES))

    def _get_result(self, key: str) -> Result:
        result = self._results.get(key)
        if result is None:
            raise RequestError(404, "this result is no longer available; send the volume again")
        return result

    def _predict(self, inputs: RequestInput) -> Result:
        with self._model_lock, self._threads:
            if inputs.volume.orientation is not None and self.predictor.device.type == "cpu":
                self._threads.choose()
            prediction = self.predictor.predict_volume(inputs.volume)
        point = self.points.of(inputs.kind)
        return Result.of(inputs.volume, prediction, point, self.predictor.not_trained)

    def _common_fields(self, result: Result, started: float, notes: Sequence[str]) -> dict[str, Any]:
        present = zip(MODALITIES, result.sliced.presence, strict=True)
        return {
            "tumour_probability": result.tumour_probability,
            "label": result.verdict,
            "not_trained": list(result.not_trained),
            "synthetic": self.checkpoint.synthetic,
            "warning": SYNTHETIC_WARNING if self.checkpoint.synthetic else None,
            "note": "; ".join(filter(None, (untrained_note(result.not_trained), *notes))) or None,
            "file_notes": list(notes),
            **_operating_info(result.point).model_dump(),
            "modalities": [modality for modality, filled in present if filled],
            "seconds": round(time.perf_counter() - started, 3),
            "fingerprint": self.checkpoint.fingerprint,
        }

    def _layer_png(self, result: Result, index: int, layer: Layer) -> str | None:
        """Return a layer in base64; None if its task was not trained."""
        untrained = _TASK_OF_LAYER.get(layer) in result.not_trained
        return None if untrained else base64_png(self._layer(result, index, layer))

    def _layer(self, result: Result, index: int, layer: Layer) -> Picture:
        if layer == "gradcam":
            return result.renderer.render_saliency(index, self._activation_map(result, index))
        if layer == "overlay" and result.mask is not None:
            return result.renderer.render_mask(index, result.mask[index])
        return result.renderer.render(index)

    def _activation_map(self, result: Result, index: int) -> NDArray[np.float32]:
        """Return the Grad-CAM of a slice, [row, col] of 0 to 1; zero on a slice below the class threshold.

        Grad-CAM is scaled to the maximum of its slice: without a tumour, this maximum means nothing.
        """
        sliced = result.sliced
        activation = np.zeros(sliced.masks.shape, dtype=np.float32)
        selected = np.flatnonzero((sliced.indices == index) & result.is_positive)
        if len(selected):
            images = sliced.images[selected]
            with self._model_lock, self._threads:
                activation[selected] = compute_gradcam(
                    self.predictor.model, images, sliced.presence, inside=np.any(images != 0, axis=1)
                )
        restored: NDArray[np.float32] = restore_to_volume(activation, sliced.geometry)[index]
        return restored


def _require_trained(layer: Layer, result: Result) -> None:
    task = _TASK_OF_LAYER.get(layer)
    if task in result.not_trained:
        raise RequestError(404, f"{task} was not trained in this model; this layer is not available")


def _operating_info(point: OperatingPoint) -> OperatingInfo:
    """Return an operating point as the API's response."""
    postprocessing = point.postprocessing
    return OperatingInfo(
        class_threshold=postprocessing.class_threshold,
        mask_threshold=postprocessing.mask_threshold,
        calibrated=point.calibrated,
        decision=postprocessing.describe(),
        origin=point.origin,
    )
