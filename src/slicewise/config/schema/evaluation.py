"""How the untouched test patients are scored."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slicewise.config.schema.base import LARGEST, Count, CountOrZero, Fraction, Positive, Section
from slicewise.config.schema.inference import InferenceSettings

Explanation = Literal["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam"]
"""How the heat behind a slice's tumour logit is made; see `inference.gradcam`."""


class Evaluation(Section):
    """How the untouched test patients are scored."""

    batch_size: Count
    """Slices asked about at once."""
    flips: bool
    """Ask about each slice and about its mirror image, left and right exchanged; the mean is the answer."""
    rotation: Annotated[float, Field(ge=0, le=45)]
    """Ask about each slice turned by so many degrees to either side, too; the mean is the answer. 0: no."""
    mask_smoothing: Annotated[float, Field(ge=0, le=10)]
    """Standard deviation, in slices, of the Gaussian that averages neighbouring slices' masks; 0: none."""
    class_smoothing: Annotated[float, Field(ge=0, le=10)]
    """The same for the probability that a slice shows tumour."""
    mask_threshold: Fraction
    """A pixel is tumour when its probability reaches this, unless another threshold is chosen."""
    class_threshold: Fraction
    """A slice is called tumour when its raw probability reaches this, unless another threshold is chosen."""
    component_share: Fraction
    """Parts of a mask smaller than this share of its largest are removed, unless another share is chosen."""
    calibrate: Literal["none", "temperature", "platt"]
    """What is fitted to the logits of each source's validation slices, if it gains significantly on slices
    of other patients; `platt` shifts them, too."""
    operating_point: Literal["fixed", "youden", "sensitivity"]
    """How the class threshold is chosen on the validation slices; `fixed` stays with `class_threshold`."""
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
    bootstrap_samples: Annotated[int, Field(ge=100, le=LARGEST)]
    """Patient resamples behind each confidence interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Of the intervals; a choice on validation patients needs one of its gain that lies above 0."""
    nsd_tolerance_mm: Positive
    """Borders no farther apart than this agree, for the normalised surface Dice."""
    gradcam_pictures: CountOrZero
    """Test slices whose answers are explained."""
    explanations: tuple[Explanation, ...]
    """Methods of explanation that are computed for these pictures and compared."""
    modality_subsets: bool
    """Score the test volumes with every subset of their modalities."""
    sample_predictions: CountOrZero
    """Test slices drawn in the sample figure."""
    failure_dice: Fraction
    """Slices and patients with masks below this Dice are failures."""
    failure_pictures: CountOrZero
    """Failed slices drawn."""

    @property
    def inference(self) -> InferenceSettings:
        """How the network is asked."""
        return InferenceSettings(self.flips, self.rotation, self.mask_smoothing, self.class_smoothing)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "gradcam" not in self.explanations:
            raise ValueError("explanations must name gradcam: it is what the demo shows")
        if len(set(self.explanations)) < len(self.explanations):
            raise ValueError("explanations names a method twice")
        return self
