"""How the untouched test patients are scored."""

from typing import Annotated, Literal

from pydantic import Field

from slicewise.config.schema.section import Count, CountOrZero, Fraction, Positive, Section


class Evaluation(Section):
    """How the untouched test patients are scored."""

    batch_size: Count
    mask_threshold: Fraction
    """A pixel is tumour when its probability reaches this, unless another threshold is chosen."""
    class_threshold: Fraction
    """A slice is called tumour when its probability reaches this, unless another threshold is chosen."""
    calibrate: bool
    """Fit a temperature to the validation slices of each source."""
    operating_point: Literal["fixed", "youden", "sensitivity"]
    """How the class threshold is chosen on the validation slices; `fixed` keeps `class_threshold`."""
    sensitivity_target: Fraction
    """What `sensitivity` reaches on the validation slices."""
    choose_mask_threshold: bool
    """Choose the mask threshold by the Dice of the validation patients."""
    postprocess: bool
    """Choose, in the same way, which parts of a mask to remove."""
    min_choice_patients: Count
    """A source with fewer validation patients keeps what is configured."""
    calibration_bins: Count
    """Bins of the expected calibration error and of the reliability diagram."""
    bootstrap_samples: Annotated[int, Field(ge=100)]
    """Patient resamples behind each confidence interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)]
    nsd_tolerance_mm: Positive
    """Borders no farther apart than this agree, for the normalised surface Dice."""
    gradcam_pictures: CountOrZero
    sample_predictions: CountOrZero
    """Test slices drawn in the sample figure."""
    failure_dice: Fraction
    """Slices and patients with masks below this Dice are failures."""
    failure_pictures: CountOrZero
    """Failed slices drawn."""
