"""The network's answers to a stored case beside what is true of it."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from slicewise.core.labels import CLASSIFICATION, SEGMENTATION
from slicewise.steps.slices import slice_keys

if TYPE_CHECKING:
    from slicewise.data.stored import StoredCase
    from slicewise.evaluation.evaluate import CaseOutput
    from slicewise.inference.predictor import SlicePredictions


NO_ANSWER: Final = 0.5
"""What a head that was never trained says of every slice."""


def case_output(
    case: "StoredCase", found: "SlicePredictions", not_trained: Collection[str] = ()
) -> "CaseOutput":
    """Join what a Predictor found with the truth.

    Of a task that was not trained nothing is joined: without training of the masks the case counts as one
    without a mask, and without training of the head every slice has the probability 0.5. So no threshold, no
    gate and no score can rest on random weights.

    A slice that serving would not look at gets what serving gives it: no mask and the probability 0.
    """
    import numpy as np

    from slicewise.evaluation.evaluate import CaseOutput

    said, outlined = found.class_probability, found.mask_probability
    if not case.seen.all():
        said, outlined = said * case.seen, outlined * case.seen[:, None, None]
    return CaseOutput(
        keys=slice_keys(case),
        group=case.group,
        mask_probability=outlined,
        class_probability=np.full_like(said, NO_ANSWER) if CLASSIFICATION in not_trained else said,
        masks=case.masks,
        has_mask=case.has_mask and SEGMENTATION not in not_trained,
        labels=case.labels,
        pixel_mm=case.pixel_mm,
        slice_mm=case.slice_mm,
    )
