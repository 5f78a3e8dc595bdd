"""The predictions of a model for stored cases, beside the reference."""

from collections.abc import Collection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.data.store_entry import StoredCase
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.evaluation.per_case import CaseOutput
from slicewise.imaging.volume import Presence
from slicewise.inference.predictor import BasePredictor
from slicewise.workflow.slices import slice_keys

UNTRAINED_PROBABILITY: Final = 0.5
"""Assigned to every slice where the classification head was not trained"""


def predict_case(
    predictor: BasePredictor,
    case: StoredCase,
    batch_size: int,
    untrained: Collection[str] = (),
    *,
    images: NDArray[np.floating[Any]] | None = None,
    presence: Presence | None = None,
) -> CaseOutput:
    """Return the predictions for the slices of a case, as serving computes them, beside the reference.

    Excluded slices get what serving assigns: no mask and the probability 0. Untrained tasks get no
    predictions: without segmentation the case counts as one without a mask, and without classification every
    slice has the probability 0.5. So no threshold or score depends on random weights.

    Args:
        predictor: the model.
        case: S stored slices.
        batch_size: slices per forward pass.
        untrained: tasks that the model was not trained on.
        images: [S, 4, N, N] in place of the case's own.
        presence: the modalities that are present in `images`.
    """
    images = case.images if images is None else images
    presence = case.presence if presence is None else presence
    seen = case.included
    if seen.all():
        masks, classes = predictor.predict_stack(images, presence, batch_size)
    else:
        masks = np.zeros((len(images), *images.shape[2:]), np.float32)
        classes = np.zeros(len(images), np.float32)
        masks[seen], classes[seen] = predictor.predict_stack(images[seen], presence, batch_size)
    if CLASSIFICATION in untrained:
        classes = np.full_like(classes, UNTRAINED_PROBABILITY)
    return CaseOutput(
        keys=slice_keys(case),
        group=case.group,
        mask_probability=masks,
        class_probability=classes,
        masks=case.masks,
        has_mask=case.has_mask and SEGMENTATION not in untrained,
        labels=case.labels,
        pixel_mm=case.pixel_mm,
        slice_mm=case.slice_mm,
        included=seen,
    )
