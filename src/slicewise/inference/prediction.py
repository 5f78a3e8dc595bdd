"""The prediction for one volume or picture: verdict, mask and millilitres, as in the evaluation."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION, Task
from slicewise.imaging.geometry import restore_to_volume
from slicewise.imaging.slicing import SlicedCase
from slicewise.imaging.volume import Volume
from slicewise.inference.postprocess import Postprocessing, tumour_probability

_MM3_PER_ML: Final = 1000.0
Verdict = Literal["tumour", "no_tumour"]
SYNTHETIC_WARNING: Final = (
    "The model was trained on generated patients only. Do not expect it to read real MRI well."
)


@dataclass(frozen=True)
class Prediction:
    """The result for one volume, or for a picture as a volume of one slice; S slices were included.

    All that depends on a task that was not trained is None.

    Attributes:
        class_probability: [S], calibrated.
        tumour_probability: of the whole; see `postprocess.tumour_probability`.
        slice_mask: [S, N, N] the mask on the grid of the slices.
        mask: [slice, row, col] on the volume's own grid.
        volume_ml: of the mask; None where the files do not give the size of their voxels.
    """

    class_probability: NDArray[np.float64] | None
    tumour_probability: float | None
    verdict: Verdict | None
    slice_mask: NDArray[np.bool_] | None
    mask: NDArray[np.bool_] | None
    volume_ml: float | None


def postprocess_volume(
    volume: Volume,
    sliced: SlicedCase,
    mask_probability: NDArray[np.float32],
    class_probability: NDArray[np.float32],
    postprocessing: Postprocessing,
    not_trained: Collection[Task] = (),
) -> Prediction:
    """Return the prediction for a volume from the probabilities of its slices.

    Args:
        volume: as read.
        sliced: its prepared slices.
        mask_probability: [S, N, N] from a predictor, 0 outside the brain.
        class_probability: [S] from a predictor.
        postprocessing: calibration, thresholds and component filter.
        not_trained: tasks that the model was not trained for.
    """
    classes = probability = slice_mask = mask = volume_ml = None
    verdict: Verdict | None = None
    if CLASSIFICATION in not_trained:
        # As in the evaluation: no gate may depend on random weights.
        class_probability = np.full_like(class_probability, 0.5)
    else:
        classes = postprocessing.probabilities(class_probability)
        probability = tumour_probability(classes)
        verdict = "tumour" if probability >= postprocessing.class_threshold else "no_tumour"
    if SEGMENTATION not in not_trained:
        threshold = postprocessing.mask_threshold
        inside = np.any(sliced.images != 0, axis=1)
        slice_mask = postprocessing.masks(mask_probability, class_probability, sliced.indices.tolist())
        slice_mask &= inside
        # Components are removed before the mask is restored, so that the others keep a smooth outline.
        removed = (mask_probability >= threshold) & ~slice_mask
        mask = (
            restore_to_volume(np.where(removed, np.float32(0), mask_probability), sliced.geometry)
            >= threshold
        )
        if volume.orientation is not None:
            volume_ml = float(np.count_nonzero(mask)) * float(np.prod(volume.spacing)) / _MM3_PER_ML
    return Prediction(classes, probability, verdict, slice_mask, mask, volume_ml)


def untrained_note(tasks: Collection[str]) -> str | None:
    """Return a note on the tasks that a model was not trained for; None where there are none."""
    return "; ".join(f"{task} was not trained in this model" for task in tasks) or None
