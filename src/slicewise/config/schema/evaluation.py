"""How the untouched test patients are scored."""

from typing import Annotated

from pydantic import Field

from slicewise.config.schema.section import Count, CountOrZero, Fraction, Positive, Section


class Evaluation(Section):
    """How the untouched test patients are scored."""

    batch_size: Count
    mask_threshold: Fraction
    """A pixel is tumour when its probability reaches this."""
    class_threshold: Fraction
    """A slice is called tumour when its probability reaches this."""
    bootstrap_samples: Annotated[int, Field(ge=100)]
    """Patient resamples behind each confidence interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)]
    nsd_tolerance_mm: Positive
    """Borders no farther apart than this agree, for the normalised surface Dice."""
    gradcam_pictures: CountOrZero
    sample_predictions: CountOrZero
    """Test slices drawn in the sample figure."""
