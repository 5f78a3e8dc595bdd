"""Results of predictions; the most recent ones are kept for requests that refer to them."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.labels import Task
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.slicing import SlicedCase
from slicewise.imaging.volume import Volume
from slicewise.inference.operating_points import OperatingPoint
from slicewise.inference.prediction import Verdict, postprocess_volume
from slicewise.inference.predictor import VolumePrediction
from slicewise.serving.api.rendering import SliceRenderer

MAX_RESULTS: Final = 6


@dataclass(frozen=True)
class Result:
    """The result for a volume, or a picture as a volume of one slice; None in fields of untrained tasks."""

    sliced: SlicedCase
    point: OperatingPoint
    """Calibration, thresholds and post-processing."""
    not_trained: tuple[Task, ...]
    class_probability: NDArray[np.float64] | None
    """[S], of the input slices, calibrated."""
    tumour_probability: float | None
    verdict: Verdict | None
    tumour_ml: float | None
    tumour_share: float | None
    """Tumour pixels over brain pixels, both on the grid of the model."""
    mask: NDArray[np.bool_] | None
    """[slice, row, col] on the volume's grid."""
    spacing: tuple[float, float, float]
    orientation: Orientation | None
    renderer: SliceRenderer

    @classmethod
    def of(
        cls,
        volume: Volume,
        prediction: VolumePrediction,
        point: OperatingPoint,
        not_trained: tuple[Task, ...] = (),
    ) -> Self:
        sliced, (masks, classes) = prediction.sliced, prediction.slices
        processed = postprocess_volume(volume, sliced, masks, classes, point.postprocessing, not_trained)
        num_brain_pixels = np.count_nonzero(np.any(sliced.images != 0, axis=1))
        return cls(
            sliced=sliced,
            point=point,
            not_trained=not_trained,
            class_probability=processed.class_probability,
            tumour_probability=processed.tumour_probability,
            verdict=processed.verdict,
            tumour_ml=processed.volume_ml,
            tumour_share=None
            if processed.slice_mask is None
            else float(processed.slice_mask.sum() / max(1, num_brain_pixels)),
            mask=processed.mask,
            spacing=volume.spacing,
            orientation=volume.orientation,
            renderer=SliceRenderer.of(volume),
        )

    @property
    def num_slices(self) -> int:
        return len(self.renderer.image)

    @property
    def is_positive(self) -> NDArray[np.bool_]:
        """Whether each input slice reaches the class threshold, [S]."""
        if self.class_probability is None:
            return np.zeros(len(self.sliced.indices), np.bool_)
        return np.asarray(self.class_probability >= self.point.postprocessing.class_threshold)

    def areas_mm2(self) -> Sequence[float | None]:
        """Return the tumour area in each slice of the volume."""
        if self.mask is None:
            return [None] * self.num_slices
        _, row_mm, col_mm = self.spacing
        return [float(pixels) * row_mm * col_mm for pixels in self.mask.sum(axis=(1, 2))]

    def probabilities(self) -> dict[int, float]:
        """Return the tumour probability of each input slice, by index in the volume."""
        if self.class_probability is None:
            return {}
        pairs = zip(self.sliced.indices, self.class_probability, strict=True)
        return {int(index): float(value) for index, value in pairs}

    def largest_slice(self) -> int | None:
        """Return the index of the slice with the largest tumour area, or None without a tumour."""
        areas = [area or 0.0 for area in self.areas_mm2()]
        return int(np.argmax(areas)) if any(areas) else None

    def key_slices(self, num_slices: int) -> list[int]:
        """Return the slice with the largest tumour area and others spread over the tumour.

        Without a mask: the slice with the highest probability; without any, the middle input slice.
        """
        largest = self.largest_slice()
        if largest is None or self.mask is None:
            if probabilities := self.probabilities():
                return [max(probabilities, key=probabilities.__getitem__)]
            indices: list[int] = self.sliced.indices.tolist()
            return indices[len(indices) // 2 :][:1]
        with_tumour = np.flatnonzero(self.mask.any(axis=(1, 2)))
        shares = (np.arange(num_slices - 1) + 0.5) / max(1, num_slices - 1)
        spread = {int(with_tumour[int(share * len(with_tumour))]) for share in shares}
        return sorted(spread | {largest})


class ResultCache:
    """The `max_results` most recently used results, under ids that cannot be guessed."""

    def __init__(self, max_results: int = MAX_RESULTS) -> None:
        self._max_results = max_results
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, result: Result) -> str:
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._results[key] = result
            while len(self._results) > self._max_results:
                self._results.popitem(last=False)
        return key

    def get(self, key: str) -> Result | None:
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
            return self._results.get(key)
