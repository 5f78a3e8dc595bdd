"""Uncertainty of a prediction: how far single passes (models of an ensemble, augmentations) differ.

The spread over test-time augmentation is that of Wang et al. 2019, over an ensemble that of Lakshminarayanan
et al. 2017; the Dice between passes is that of Roy et al. 2019. The prediction itself is not changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.labels import SEGMENTATION
from slicewise.inference.ensemble import SPREAD, TTATransform
from slicewise.inference.graph_backend import coverage
from slicewise.inference.prediction import Prediction

if TYPE_CHECKING:
    from slicewise.inference.pipeline import Pipeline

_COVERED: Final = 0.5
_MM3_PER_ML: Final = 1000.0


@dataclass(frozen=True)
class Spread:
    """How far the passes over one case differ. Deviations are those of the population of passes."""

    num_passes: int
    mask_deviation: NDArray[np.float32] | None
    """[S, K, N, N] standard deviation of the probability of each class of a pixel; None without masks"""
    probabilities: Sequence[float]
    """Of tumour for the whole case, in each pass; of several classes that of the predicted one; empty without
    classification"""
    volumes_ml: Sequence[float]
    """Of the masks of all classes, on the grid of the slices; empty where no pixel size is known"""
    dice: float | None
    """Mean Dice of the masks of every two passes; None where all are empty, or without masks"""

    @property
    def probability_deviation(self) -> float | None:
        return float(np.std(self.probabilities)) if len(self.probabilities) else None

    @property
    def volume_deviation_ml(self) -> float | None:
        return float(np.std(self.volumes_ml)) if len(self.volumes_ml) else None

    def columns(self) -> dict[str, float | None]:
        """Return the spread of the case as columns of a table."""
        return {
            "passes": float(self.num_passes),
            "probability_deviation": self.probability_deviation,
            "volume_deviation_ml": self.volume_deviation_ml,
            "dice_of_passes": self.dice,
        }


def estimate_spread(pipeline: "Pipeline", prediction: Prediction) -> Spread:
    """Return the spread of the passes over a case around its prediction.

    The passes are each model of the pipeline with each of its augmentations; where these are one, also the
    mirror image and rotations by 5 degrees to either side.
    """
    slices, size = prediction.slices, prediction.mask_probability.shape[-1]
    total = np.zeros(prediction.mask_probability.shape)
    squares, number = np.zeros_like(total), np.zeros((size, size))
    masks, probabilities = [], []
    passes = [*product(range(len(pipeline.checkpoints)), _transforms(pipeline))]
    for model, transform in passes:
        outputs = pipeline.single_pass(model, transform).infer(slices)
        covered = coverage(transform, size)[0, 0] > _COVERED
        total += outputs.mask_probability * covered
        squares += outputs.mask_probability.astype(np.float64) ** 2 * covered
        number += covered
        own = replace(
            prediction, mask_probability=outputs.mask_probability, class_probability=outputs.class_probability
        )
        probabilities += [] if prediction.whole is None else [_probability(own, prediction)]
        if own.slice_mask is not None:
            masks.append(own.slice_mask)
    deviation = np.sqrt(np.maximum(squares / number - (total / number) ** 2, 0)).astype(np.float32)
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    voxel_ml = None if slices.pixel_mm is None else slices.pixel_mm**2 * slices.slice_mm / _MM3_PER_ML
    return Spread(
        num_passes=len(passes),
        mask_deviation=deviation if SEGMENTATION in prediction.tasks else None,
        probabilities=probabilities,
        volumes_ml=[] if voxel_ml is None else [size * voxel_ml for size in sizes],
        dice=_mean_dice(masks, sizes),
    )


def _transforms(pipeline: "Pipeline") -> Sequence[TTATransform]:
    return pipeline.transforms if len(pipeline.transforms) > 1 else SPREAD


def _probability(one: Prediction, prediction: Prediction) -> float:
    """Return the probability of a pass for the class that the prediction is about."""
    assert one.whole is not None
    if not one.whole.ndim:
        return float(one.whole)
    return one.class_probabilities[prediction.predicted_class or ""]


def _mean_dice(masks: Sequence[NDArray[np.bool_]], sizes: Sequence[int]) -> float | None:
    dice = [
        2 * np.count_nonzero(masks[one] & masks[other]) / (sizes[one] + sizes[other])
        for one, other in combinations(range(len(masks)), 2)
        if sizes[one] + sizes[other]
    ]
    return float(np.mean(dice)) if dice else None
