"""Inference and evaluation on the held-out test patients."""

from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from slicewise.config.schema.base import LARGEST, Count, CountOrZero, Fraction, Positive, Section
from slicewise.config.schema.model import ClassificationSettings

MAX_BAND: Final = 0.5
"""A band of this half width around 0.5 would hold every probability"""

Explanation = Literal["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam"]
"""Saliency methods; see `slicewise.explain`."""


class InferenceSettings(NamedTuple):
    """The settings that change predictions. Thresholds chosen for one combination hold for no other."""

    flips: bool = False
    rotation: float = 0.0
    mask_smoothing: float = 0.0
    class_smoothing: float = 0.0

    def describe(self) -> str:
        """Return the settings as overrides of the command line."""
        return " ".join(f"evaluation.{key}={value}" for key, value in self._asdict().items())


class Evaluation(Section):
    """Inference and evaluation on the held-out test patients."""

    batch_size: Count
    """Inference batch size, slices."""
    flips: bool
    """Test-time augmentation: average the predictions of each slice and its left-right mirror image."""
    rotation: Annotated[float, Field(ge=0, le=45)]
    """Test-time augmentation: also average over rotations by so many degrees to either side; 0: none."""
    mask_smoothing: Annotated[float, Field(ge=0, le=10)]
    """Standard deviation, in slices, of the Gaussian that smooths masks across slices; 0: none."""
    class_smoothing: Annotated[float, Field(ge=0, le=10)]
    """The same for the slices' tumour probability."""
    mask_threshold: Fraction
    """Smallest probability of a tumour pixel, unless another threshold is chosen."""
    class_threshold: Fraction | None
    """Smallest uncalibrated probability of a tumour slice, unless another threshold is chosen. Of more than
    two classes the most probable one is predicted, and this is null."""
    uncertain_band: Annotated[float, Field(ge=0, lt=MAX_BAND)]
    """A case is uncertain whose calibrated probability is nearer than this to a class threshold of 0.5;
    around other thresholds the band is as wide in log odds. Of several classes: whose most probable one has a
    share nearer than this to a half of the two most probable ones. 0: none."""
    component_share: Fraction
    """Components of a mask smaller than this share of its largest are removed, unless another share is
    chosen."""
    min_component: CountOrZero
    """Components of a mask with fewer voxels of the prepared slices are removed, unless another number is
    chosen."""
    calibrate: Literal["none", "temperature", "platt"]
    """Calibration of the logits, fitted to each source's validation slices and used if it improves those of
    other patients significantly; `platt` scales and shifts. More than two classes have a temperature."""
    operating_point: Literal["fixed", "youden", "sensitivity"]
    """How the class threshold is chosen on validation slices; `fixed` is `class_threshold`."""
    sensitivity_target: Fraction
    """Sensitivity on the validation slices that `sensitivity` reaches."""
    choose_mask_threshold: bool
    """Choose the mask threshold by the Dice of the validation patients."""
    postprocess: bool
    """Choose `component_share` and `min_component` in the same way."""
    min_choice_patients: Count
    """Sources with fewer validation patients use the configured values."""
    calibration_bins: Count
    """Bins of the expected calibration error and the reliability diagram."""
    bootstrap_samples: Annotated[int, Field(ge=100, le=LARGEST)]
    """Patient resamples behind each confidence interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Confidence level of the intervals. A choice on validation patients needs an interval of its gain above
    0."""
    nsd_tolerance_mm: Positive
    """Tolerance of the normalised surface Dice."""
    gradcam_pictures: CountOrZero
    """Test slices with saliency maps."""
    explanations: tuple[Explanation, ...]
    """Saliency methods that are computed for these slices and compared."""
    modality_subsets: bool
    """Evaluate the test volumes with every subset of their modalities."""
    sample_predictions: CountOrZero
    """Test slices in the sample figure."""
    failure_dice: Fraction
    """Slices and patients with a Dice below this are failures."""
    failure_iou: Fraction | None
    """Those with an IoU below this, in place of `failure_dice`; null: as that says."""
    failure_pictures: CountOrZero
    """Failed slices drawn, and copied to `results/failures/pictures/`: image, reference and prediction."""

    @property
    def inference(self) -> InferenceSettings:
        """The settings that change predictions."""
        return InferenceSettings(self.flips, self.rotation, self.mask_smoothing, self.class_smoothing)

    def suited_to(self, classification: ClassificationSettings | None) -> Self:
        """Return the settings without a class threshold for a model of several classes of a slice."""
        if classification is None or not classification.has_several:
            return self
        return self.model_copy(update={"class_threshold": None})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "gradcam" not in self.explanations:
            raise ValueError("explanations must include gradcam, which the demo shows")
        if len(set(self.explanations)) < len(self.explanations):
            raise ValueError("explanations lists a method twice; name each of them once")
        return self
