"""One model, one prediction at a time, and its findings in words and pictures."""

import math
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from slicewise.core.labels import MODALITIES, NUM_MODALITIES
from slicewise.evaluation.operating import KINDS, OperatingPoint, OperatingPoints
from slicewise.imaging.geometry import restore
from slicewise.imaging.nifti import write_nifti
from slicewise.imaging.overlay import to_png
from slicewise.imaging.volume import Volume
from slicewise.inference.gradcam import gradcam
from slicewise.inference.predictor import Predictor
from slicewise.serving.drawing import Picture, base64_png
from slicewise.serving.results import Result, ResultCache
from slicewise.serving.schemas import (
    KeySlice,
    ModelInfo,
    OperatingInfo,
    PictureExamination,
    SliceExamination,
    VolumeExamination,
)
from slicewise.serving.uploads import RequestError

Layer = Literal["plain", "overlay", "gradcam"]
NUM_KEY_SLICES: Final = 3


class Examiner:
    """Examines volumes and pictures; threads may share it.

    Args:
        predictor: the model.
        points: how volumes and pictures are decided on.
    """

    def __init__(self, predictor: Predictor, points: OperatingPoints) -> None:
        self.predictor = predictor
        self.checkpoint = predictor.checkpoint
        self.points = points
        self._results = ResultCache()
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
            device=str(self.predictor.device),
            **self.predictor.asking._asdict(),
            operating_points={kind: _info(self.points.of(kind)) for kind in KINDS},
            max_upload_mib=max_upload_mib,
        )

    def examine(self, volume: Volume, with_gradcam: bool) -> PictureExamination | VolumeExamination:
        """Examine what was uploaded. A picture is a volume of one slice without an orientation."""
        if volume.orientation is None:
            return self.examine_picture(volume, with_gradcam)
        return self.examine_volume(volume, with_gradcam)

    def examine_picture(self, volume: Volume, with_gradcam: bool) -> PictureExamination:
        started = time.perf_counter()
        result = self._predict(volume)
        return PictureExamination(
            tumour_share=result.tumour_share,
            picture_png=base64_png(self._layer(result, 0, "plain")),
            mask_png=base64_png(result.mask[0] * np.uint8(255)),
            overlay_png=base64_png(self._layer(result, 0, "overlay")),
            gradcam_png=base64_png(self._layer(result, 0, "gradcam")) if with_gradcam else None,
            **self._verdict(result, started),
        )

    def examine_volume(self, volume: Volume, with_gradcam: bool) -> VolumeExamination:
        """Examine a volume; the result stays available under its id for a while."""
        started = time.perf_counter()
        result = self._predict(volume)
        probabilities, areas = result.probabilities(), result.areas_mm2()
        slices = [
            SliceExamination(index=index, probability=probabilities.get(index), tumour_mm2=area)
            for index, area in enumerate(areas)
        ]
        keys = [
            self._key_slice(result, slices[index], with_gradcam)
            for index in result.key_slices(NUM_KEY_SLICES)
        ]
        key = self._results.add(result)
        return VolumeExamination(
            id=key,
            tumour_ml=result.tumour_ml or 0.0,
            num_slices=result.num_slices,
            largest_slice=result.largest_slice(),
            slices=slices,
            key_slices=keys,
            mask_url=f"/results/{key}/mask.nii.gz",
            **self._verdict(result, started),
        )

    def draw(self, key: str, index: int, layer: Layer) -> bytes:
        """Return one slice of a kept result as PNG.

        Raises:
            RequestError: 404 when the result is no longer kept or has no such slice.
        """
        result = self._kept(key)
        if not 0 <= index < result.num_slices:
            raise RequestError(404, f"slice {index} is not one of 0 to {result.num_slices - 1}")
        return to_png(self._layer(result, index, layer))

    def mask_file(self, key: str) -> bytes:
        """Return the mask of a kept result as .nii.gz on the grid of the upload.

        Raises:
            RequestError: 404 when the result is no longer kept.
        """
        result = self._kept(key)
        assert result.orientation is not None  # pictures are not kept
        with TemporaryDirectory(prefix="slicewise-mask-") as folder:
            path = Path(folder) / "mask.nii.gz"
            write_nifti(path, result.mask.astype(np.uint8), result.orientation)
            return path.read_bytes()

    def warm_up(self) -> None:
        """Do the slow imports of the first Grad-CAM ahead of the first request."""
        side = self.checkpoint.preprocessing.image_size
        blank = np.zeros((1, NUM_MODALITIES, side, side), np.float32)
        gradcam(self.predictor.model, blank, np.ones(NUM_MODALITIES))

    def _kept(self, key: str) -> Result:
        result = self._results.get(key)
        if result is None:
            raise RequestError(404, "that result is not kept any more; examine the volume again")
        return result

    def _predict(self, volume: Volume) -> Result:
        with self._model_lock:
            prediction = self.predictor.predict_volume(volume)
        point = self.points.of("picture" if volume.orientation is None else "volume")
        return Result.of(volume, prediction, point)

    def _verdict(self, result: Result, started: float) -> dict[str, Any]:
        present = zip(MODALITIES, result.sliced.presence, strict=True)
        return {
            "tumour_probability": result.tumour_probability,
            "label": result.verdict,
            **_info(result.point).model_dump(),
            "modalities": [modality for modality, filled in present if filled],
            "seconds": round(time.perf_counter() - started, 3),
            "fingerprint": self.checkpoint.fingerprint,
        }

    def _key_slice(self, result: Result, found: SliceExamination, with_gradcam: bool) -> KeySlice:
        overlay = base64_png(self._layer(result, found.index, "overlay"))
        heat = base64_png(self._layer(result, found.index, "gradcam")) if with_gradcam else None
        return KeySlice(**found.model_dump(), overlay_png=overlay, gradcam_png=heat)

    def _layer(self, result: Result, index: int, layer: Layer) -> Picture:
        if layer == "plain":
            return result.view.plain(index)
        if layer == "overlay":
            return result.view.with_mask(index, result.mask[index])
        return result.view.with_heat(index, self._heat(result, index))

    def _heat(self, result: Result, index: int) -> NDArray[np.float32]:
        """Return the Grad-CAM heat of one slice on the volume's grid; zero where the network saw nothing."""
        sliced = result.sliced
        heat = np.zeros(sliced.masks.shape, dtype=np.float32)
        seen = np.flatnonzero(sliced.indices == index)
        if len(seen):
            images = sliced.images[seen]
            with self._model_lock:
                heat[seen] = gradcam(
                    self.predictor.model, images, sliced.presence, inside=np.any(images != 0, axis=1)
                )
        restored: NDArray[np.float32] = restore(heat, sliced.geometry)[index]
        return restored


def _info(point: OperatingPoint) -> OperatingInfo:
    """Return an operating point as the API tells it."""
    decision = point.decision
    return OperatingInfo(
        class_threshold=decision.class_threshold,
        mask_threshold=decision.mask_threshold,
        calibrated=point.calibrated,
        decision=decision.describe(),
        origin=point.origin,
    )
