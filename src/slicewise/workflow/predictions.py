"""The network's answers to a stored case beside what is true of it."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.workflow.slices import slice_keys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slicewise.data.store_entry import StoredCase
    from slicewise.evaluation.evaluate import CaseOutput
    from slicewise.imaging.volume import Presence
    from slicewise.inference.predictor import BasePredictor, SlicePredictions


UNTRAINED_PROBABILITY: Final = 0.5
"""What a head that was never trained says of every slice."""


def predict_case(
    predictor: "BasePredictor",
    case: "StoredCase",
    images: "NDArray[np.floating[Any]]",
    presence: "Presence",
    batch_size: int,
) -> "SlicePredictions":
    """Ask about the slices of a case that serving would look at, as serving does.

    The others get what serving gives them: no mask and the probability 0.

    Args:
        predictor: who is asked.
        case: whose slices they are.
        images: [S, 4, N, N], those of the case or what was made of them.
        presence: the modalities that are given.
        batch_size: slices per pass of the network.
    """
    import numpy as np

    from slicewise.inference.predictor import SlicePredictions

    if case.included.all():
        return predictor.predict_stack(images, presence, batch_size)
    masks = np.zeros((len(images), *images.shape[2:]), np.float32)
    classes = np.zeros(len(images), np.float32)
    masks[case.included], classes[case.included] = predictor.predict_stack(
        images[case.included], presence, batch_size
    )
    return SlicePredictions(masks, classes)


def case_output(
    case: "StoredCase", predictions: "SlicePredictions", not_trained: Collection[str] = ()
) -> "CaseOutput":
    """Join what a Predictor found with the truth.

    Of a task that was not trained nothing is joined: without training of the masks the case counts as one
    without a mask, and without training of the head every slice has the probability 0.5. So no threshold, no
    gate and no score can rest on random weights.
    """
    import numpy as np

    from slicewise.evaluation.evaluate import CaseOutput

    probability = predictions.class_probability
    return CaseOutput(
        keys=slice_keys(case),
        group=case.group,
        mask_probability=predictions.mask_probability,
        class_probability=np.full_like(probability, UNTRAINED_PROBABILITY)
        if CLASSIFICATION in not_trained
        else probability,
        masks=case.masks,
        has_mask=case.has_mask and SEGMENTATION not in not_trained,
        labels=case.labels,
        pixel_mm=case.pixel_mm,
        slice_mm=case.slice_mm,
        included=case.included,
    )
