"""Predicts volumes and pictures with one pipeline, one at a time; keeps recent results and draws them."""

import base64
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from slicewise.compute.threads import Threads
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION, SYNTHETIC_WARNING, Task
from slicewise.explain.cam import compute_gradcam
from slicewise.imaging.io.image2d import to_png
from slicewise.imaging.slicing import restore_to_volume
from slicewise.inference.operating_points import INPUT_KINDS, OperatingPoint
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.prediction import Prediction
from slicewise.plots.slices import Picture, SliceRenderer
from slicewise.serving.api import schemas
from slicewise.serving.api.errors import RequestError
from slicewise.serving.api.uploads import RequestInput

Layer = Literal["plain", "overlay", "gradcam"]
MAX_RESULTS: Final = 6
NUM_KEY_SLICES: Final = 3


@dataclass(frozen=True)
class Result:
    """A prediction and the pictures of its slices."""

    prediction: Prediction
    renderer: SliceRenderer

    def slices(self) -> list[schemas.SliceExamination]:
        """Return the probability of tumour, or of the called class, of each slice, and the tumour areas."""
        prediction = self.prediction
        areas: Sequence[float | None] = [None] * len(self.renderer.image)
        if prediction.mask is not None and prediction.spacing is not None:
            _, row_mm, col_mm = prediction.spacing
            areas = (prediction.mask.sum(axis=(1, 2)) * row_mm * col_mm).tolist()
        probabilities, shares = {}, prediction.probabilities
        if shares is not None:
            if prediction.whole is not None and prediction.whole.ndim:
                shares = shares[:, int(prediction.whole.argmax())]
            probabilities = dict(zip(prediction.slices.indices.tolist(), shares.tolist(), strict=True))
        return [
            schemas.SliceExamination(index=index, probability=probabilities.get(index), tumour_mm2=area)
            for index, area in enumerate(areas)
        ]

    def key_slices(self, slices: Sequence[schemas.SliceExamination]) -> list[int]:
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
        indices: list[int] = self.prediction.slices.indices.tolist()
        return indices[len(indices) // 2 :][:1]


def _largest(slices: Sequence[schemas.SliceExamination]) -> int:
    """Return the index of the slice with the largest tumour area."""
    return max(slices, key=lambda each: each.tumour_mm2 or 0.0).index


class PredictionService:
    """Returns predictions of one model as API responses; threads may share it.

    `num_threads` are those of the model; 0 selects automatically.
    """

    def __init__(self, pipeline: Pipeline, num_threads: int = 0) -> None:
        self.pipeline = pipeline
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._results_lock = threading.Lock()
        self._threads = Threads.for_short_work(num_threads, "demo")
        self._model_lock = threading.Lock()

    def describe(self, max_upload_mib: int) -> schemas.ModelInfo:
        checkpoint = self.pipeline.checkpoints[0]
        classification = checkpoint.tasks.classification
        return schemas.ModelInfo(
            fingerprint=checkpoint.fingerprint,
            stage=checkpoint.stage,
            model=checkpoint.model.model_dump(),
            preprocessing=checkpoint.preprocessing.model_dump(),
            class_names=[*classification.classes] if classification else [],
            metrics={name: value for name, value in checkpoint.metrics.items() if math.isfinite(value)},
            data_name=checkpoint.data_name,
            synthetic=checkpoint.synthetic,
            tasks=[*self.pipeline.tasks],
            device=str(self.pipeline.device),
            **self.pipeline.inference._asdict(),
            operating_points={
                kind: _operating_info(self.pipeline.points.of(kind), [*self.pipeline.tasks])
                for kind in INPUT_KINDS
            },
            max_upload_mib=max_upload_mib,
        )

    def predict(self, inputs: RequestInput, with_gradcam: bool) -> schemas.AnyExamination:
        """Return the prediction for an upload; only volumes have an orientation."""
        if inputs.volume.orientation is None:
            return self._predict_picture(inputs, with_gradcam)
        return self.predict_volume(inputs, with_gradcam)

    def _predict_picture(self, inputs: RequestInput, with_gradcam: bool) -> schemas.PictureExamination:
        started = time.perf_counter()
        result = self._predict(inputs)
        mask, slice_mask = result.prediction.mask, result.prediction.slice_mask
        brain = np.count_nonzero(np.any(result.prediction.slices.images != 0, axis=1))
        return schemas.PictureExamination(
            tumour_share=None if slice_mask is None else float(slice_mask.sum() / max(1, brain)),
            picture_png=_base64_png(result.renderer.render(0)),
            mask_png=None if mask is None else _base64_png(mask[0] * np.uint8(255)),
            overlay_png=self._layer_png(result, 0, "overlay"),
            gradcam_png=self._layer_png(result, 0, "gradcam") if with_gradcam else None,
            **_common_fields(result.prediction, started, inputs.notes),
        )

    def predict_volume(self, inputs: RequestInput, with_gradcam: bool) -> schemas.VolumeExamination:
        """Return the prediction for a volume; its result stays available under its id for a while."""
        started = time.perf_counter()
        result = self._predict(inputs)
        slices = result.slices()
        key_slices = [
            schemas.KeySlice(
                **slices[index].model_dump(),
                overlay_png=self._layer_png(result, index, "overlay"),
                gradcam_png=self._layer_png(result, index, "gradcam") if with_gradcam else None,
            )
            for index in result.key_slices(slices)
        ]
        key = secrets.token_urlsafe(12)  # cannot be guessed
        with self._results_lock:
            self._results[key] = result
            while len(self._results) > MAX_RESULTS:  # the least recently used goes
                self._results.popitem(last=False)
        return schemas.VolumeExamination(
            id=key,
            tumour_ml=result.prediction.volume_ml,
            class_ml=result.prediction.class_volumes_ml,
            num_slices=len(result.renderer.image),
            largest_slice=_largest(slices) if any(each.tumour_mm2 for each in slices) else None,
            slices=slices,
            key_slices=key_slices,
            mask_url=None if result.prediction.mask is None else f"/results/{key}/mask.nii.gz",
            **_common_fields(result.prediction, started, inputs.notes),
        )

    def render_slice(self, key: str, index: int, layer: Layer) -> bytes:
        """Return one slice of a recent result as PNG.

        Raises:
            RequestError: 404 if the result is no longer available or has no such slice or layer.
        """
        result = self._get_result(key)
        last = len(result.renderer.image) - 1
        if not 0 <= index <= last:
            raise RequestError(404, f"there is no slice {index}; the slices are 0 to {last}")
        picture = self._layer(result, index, layer)
        if picture is None:
            task = SEGMENTATION if layer == "overlay" else CLASSIFICATION
            raise RequestError(404, f"the model has no {task}; this layer is not available")
        return to_png(picture)

    def mask_nifti(self, key: str) -> bytes:
        """Return the mask of a recent result as .nii.gz on the grid of the upload.

        Raises:
            RequestError: 404 if the result is no longer available or has no mask.
        """
        prediction = self._get_result(key).prediction
        if prediction.mask is None:
            raise RequestError(404, f"the model has no {SEGMENTATION}; there is no mask")
        return prediction.mask_nifti()

    def warm_up(self) -> None:
        """Compute a Grad-CAM, whose first call imports slow modules, before the first request."""
        preprocessing = self.pipeline.checkpoints[0].preprocessing
        size, channels = preprocessing.image_size, len(preprocessing.channels)
        blank = np.zeros((1, channels, size, size), np.float32)
        compute_gradcam(self.pipeline.model, blank, np.ones(channels))

    def _get_result(self, key: str) -> Result:
        with self._results_lock:
            if key not in self._results:
                raise RequestError(404, "this result is no longer available; send the volume again")
            self._results.move_to_end(key)
            return self._results[key]

    def _predict(self, inputs: RequestInput) -> Result:
        with self._model_lock, self._threads:
            if inputs.volume.orientation is not None and self.pipeline.device.type == "cpu":
                self._threads.choose()
            prediction = self.pipeline.predict(inputs.volume, kind=inputs.kind)
        return Result(prediction, SliceRenderer.of(inputs.volume))

    def _layer_png(self, result: Result, index: int, layer: Layer) -> str | None:
        picture = self._layer(result, index, layer)
        return None if picture is None else _base64_png(picture)

    def _layer(self, result: Result, index: int, layer: Layer) -> Picture | None:
        """Return a slice with a layer; None if the model lacks the task of the layer."""
        prediction, renderer = result.prediction, result.renderer
        if layer == "overlay":
            if prediction.masks is None:
                return None
            masks = zip(prediction.masks[:, index], prediction.classes.colours, strict=True)
            return renderer.render(index, masks=masks)
        if layer == "gradcam":
            if prediction.slice_calls is None:
                return None
            called = prediction.slice_calls
            return renderer.render(index, saliency=self._activation_map(prediction, index, called))
        return renderer.render(index)

    def _activation_map(
        self, prediction: Prediction, index: int, called: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the Grad-CAM of a slice, [row, col] of 0 to 1; zero where the slice is not called a tumour.

        Grad-CAM is scaled to the maximum of its slice: without a tumour, this maximum means nothing. With
        several classes it is that of the called one.
        """
        several = prediction.slice_classes.several
        slices = prediction.slices
        activation = np.zeros(slices.images[:, 0].shape, dtype=np.float32)
        selected = np.flatnonzero((slices.indices == index) & (bool(several) | (called > 0)))
        if len(selected):
            images = slices.images[selected]
            with self._model_lock, self._threads:
                activation[selected] = compute_gradcam(
                    self.pipeline.model,
                    images,
                    slices.presence,
                    inside=np.any(images != 0, axis=1),
                    targets=called[selected].tolist() if several else None,
                )
        restored: NDArray[np.float32] = restore_to_volume(activation, slices.geometry)[index]
        return restored


def _common_fields(prediction: Prediction, started: float, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "tumour_probability": prediction.tumour_probability,
        "label": prediction.predicted_class,
        "class_probabilities": prediction.class_probabilities,
        "tasks": [*prediction.tasks],
        "mask_classes": [*prediction.classes.several],
        "synthetic": prediction.synthetic,
        "warning": SYNTHETIC_WARNING if prediction.synthetic else None,
        "note": "; ".join(notes) or None,
        "file_notes": list(notes),
        **_operating_info(prediction.point, prediction.tasks).model_dump(),
        "modalities": list(prediction.modalities),
        "seconds": round(time.perf_counter() - started, 3),
        "fingerprint": prediction.fingerprint,
    }


def _operating_info(point: OperatingPoint, tasks: Sequence[Task]) -> schemas.OperatingInfo:
    postprocessing = point.postprocessing
    return schemas.OperatingInfo(
        class_threshold=postprocessing.class_threshold,
        mask_threshold=postprocessing.mask_threshold,
        class_mask_thresholds={name: rule.mask_threshold for name, rule in postprocessing.by_class},
        calibrated=point.calibrated,
        decision=postprocessing.describe(tasks),
        origin=point.origin,
    )


def _base64_png(picture: Picture) -> str:
    """Return a picture as PNG in base64 (RFC 4648)."""
    return base64.b64encode(to_png(picture)).decode()
