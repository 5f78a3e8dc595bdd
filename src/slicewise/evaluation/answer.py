"""From the probabilities of one volume to its answer, exactly as the evaluation decided."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slicewise.evaluation.decision import Decision
from slicewise.imaging.slicing import SlicedCase, restore
from slicewise.imaging.summary import tumour_probability
from slicewise.imaging.volume import Volume

_MM3_PER_ML = 1000.0
Verdict = Literal["tumour", "no_tumour"]


@dataclass(frozen=True)
class Answer:
    """What is said of one volume, or of a picture as a volume of one slice; S slices were seen.

    Attributes:
        class_probability: [S], calibrated.
        tumour_probability: of the whole; see `imaging.summary`.
        seen: [S, N, N] the mask on the slices as the network saw them.
        mask: [slice, row, col] on the volume's own grid.
        volume_ml: of the mask; None where the files tell no size of their voxels.
    """

    class_probability: NDArray[np.float64]
    tumour_probability: float
    verdict: Verdict
    seen: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    volume_ml: float | None


def answer(
    volume: Volume,
    sliced: SlicedCase,
    mask_probability: NDArray[np.float32],
    class_probability: NDArray[np.float32],
    decision: Decision,
) -> Answer:
    """Decide on a volume.

    Args:
        volume: as read.
        sliced: as the network saw it.
        mask_probability: [S, N, N] as the network gave them, 0 outside the brain.
        class_probability: [S] as the network gave them.
        decision: calibration, thresholds and post-processing.
    """
    classes = decision.probabilities(class_probability)
    probability = tumour_probability(classes)
    inside = np.any(sliced.images != 0, axis=1)
    seen = decision.masks(mask_probability, class_probability, sliced.indices.tolist()) & inside
    # What was removed is removed before the way back, so that what stays keeps its smooth outline.
    removed = (mask_probability >= decision.mask_threshold) & ~seen
    restored = restore(np.where(removed, np.float32(0), mask_probability), sliced.geometry)
    mask = restored >= decision.mask_threshold
    return Answer(
        classes,
        probability,
        "tumour" if probability >= decision.class_threshold else "no_tumour",
        seen,
        mask,
        _millilitres(volume, mask),
    )


def _millilitres(volume: Volume, mask: NDArray[np.bool_]) -> float | None:
    if volume.orientation is None:
        return None
    return float(np.count_nonzero(mask)) * float(np.prod(volume.spacing)) / _MM3_PER_ML
