"""From the probabilities of one volume to its answer, exactly as the evaluation decided."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION, Task
from slicewise.imaging.geometry import restore_to_volume
from slicewise.imaging.slicing import SlicedCase
from slicewise.imaging.volume import Volume
from slicewise.inference.aggregation import tumour_probability
from slicewise.inference.postprocess import Postprocessing

_MM3_PER_ML = 1000.0
Verdict = Literal["tumour", "no_tumour"]
SYNTHETIC_WARNING: Final = (
    "The network has seen generated patients only. Do not expect it to read real MRI well."
)


@dataclass(frozen=True)
class Prediction:
    """What is said of one volume, or of a picture as a volume of one slice; S slices were seen.

    All that rests on a task that was not trained is None.

    Attributes:
        class_probability: [S], calibrated.
        tumour_probability: of the whole; see `imaging.summary`.
        seen: [S, N, N] the mask on the slices as the network saw them.
        mask: [slice, row, col] on the volume's own grid.
        volume_ml: of the mask; None where the files tell no size of their voxels.
    """

    class_probability: NDArray[np.float64] | None
    tumour_probability: float | None
    verdict: Verdict | None
    seen: NDArray[np.bool_] | None
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
    """Decide on a volume.

    Args:
        volume: as read.
        sliced: as the network saw it.
        mask_probability: [S, N, N] as the network gave them, 0 outside the brain.
        class_probability: [S] as the network gave them.
        postprocessing: calibration, thresholds and post-processing.
        not_trained: tasks that the network was never taught.
    """
    classes = probability = verdict = seen = mask = None
    if CLASSIFICATION in not_trained:
        # As in the evaluation: no gate may rest on random weights.
        class_probability = np.full_like(class_probability, 0.5)
    else:
        classes = postprocessing.probabilities(class_probability)
        probability = tumour_probability(classes)
        verdict = _verdict(probability, postprocessing)
    if SEGMENTATION not in not_trained:
        seen, mask = _masks(sliced, mask_probability, class_probability, postprocessing)
    return Prediction(classes, probability, verdict, seen, mask, _volume_ml(volume, mask))


def untrained_note(tasks: Collection[str]) -> str | None:
    """Return why a part of an answer is missing; None where nothing is."""
    return "; ".join(f"{task} was not trained in this network" for task in tasks) or None


def _verdict(probability: float, postprocessing: Postprocessing) -> Verdict:
    return "tumour" if probability >= postprocessing.class_threshold else "no_tumour"


def _masks(
    sliced: SlicedCase,
    mask_probability: NDArray[np.float32],
    class_probability: NDArray[np.float32],
    postprocessing: Postprocessing,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the mask on the slices as the network saw them, and on the volume's own grid."""
    inside = np.any(sliced.images != 0, axis=1)
    seen = postprocessing.masks(mask_probability, class_probability, sliced.indices.tolist()) & inside
    # What was removed is removed before the way back, so that what stays keeps its smooth outline.
    removed = (mask_probability >= postprocessing.mask_threshold) & ~seen
    restored = restore_to_volume(np.where(removed, np.float32(0), mask_probability), sliced.geometry)
    return seen, restored >= postprocessing.mask_threshold


def _volume_ml(volume: Volume, mask: NDArray[np.bool_] | None) -> float | None:
    if mask is None or volume.orientation is None:
        return None
    return float(np.count_nonzero(mask)) * float(np.prod(volume.spacing)) / _MM3_PER_ML
