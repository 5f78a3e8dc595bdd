"""The network's answers to a stored case beside what is true of it."""

from typing import TYPE_CHECKING

from slicewise.steps.slices import slice_keys

if TYPE_CHECKING:
    from slicewise.data.stored import StoredCase
    from slicewise.evaluation.evaluate import CaseOutput
    from slicewise.inference.predictor import SlicePredictions


def case_output(case: "StoredCase", found: "SlicePredictions") -> "CaseOutput":
    """Join what a Predictor found with the truth."""
    from slicewise.evaluation.evaluate import CaseOutput

    return CaseOutput(
        keys=slice_keys(case),
        group=case.group,
        mask_probability=found.mask_probability,
        class_probability=found.class_probability,
        masks=case.masks,
        has_mask=case.has_mask,
        labels=case.labels,
        pixel_mm=case.pixel_mm,
        slice_mm=case.slice_mm,
    )
