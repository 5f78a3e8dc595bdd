"""Responses of the API. Pictures are PNG in base64.

Row 0 of a volume's slice is anterior, column 0 the patient's right, and R and L are drawn at its sides;
uploaded pictures keep left and right as they are.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from slicewise.domain.labels import NOTICE, Modality, Task
from slicewise.serving.api.problems import Problem

Probability = Annotated[float, Field(ge=0, le=1)]
_GRADCAM_DESCRIPTION: Final = (
    "evidence for a tumour (Grad-CAM) relative to this slice; nothing is drawn below the class threshold. "
    "With several classes: evidence for the predicted one of this slice"
)
Png = Annotated[str, Field(description="PNG, base64")]


class ApiModel(BaseModel):
    """Base of all responses."""

    model_config = ConfigDict(protected_namespaces=())


class Health(ApiModel):
    """The service is up and its model is loaded."""

    status: Literal["ready"] = "ready"
    fingerprint: str = Field(description="of the checkpoint that is served")


class Ready(ApiModel):
    """The service accepts requests."""

    status: Literal["ready"] = "ready"
    running: int = Field(description="requests that the model works on")
    waiting: int = Field(description="requests before it")


class QueueState(ApiModel):
    """The requests of this moment, and the place of one of them."""

    running: int = Field(description="requests that the model works on")
    waiting: int = Field(description="requests before it")
    capacity: int = Field(description="how many may wait; a further one is refused with 503")
    position: int | None = Field(None, description="requests before yours; 0: the model works on it")
    since: datetime | None = Field(None, description="when yours was received (UTC)")


class OperatingInfo(ApiModel):
    """Calibration, thresholds and post-processing, and how they were chosen."""

    class_threshold: Probability | None = Field(
        description="the label is `tumour` from this probability on; null: it is the most probable class"
    )
    mask_threshold: Probability = Field(description="a pixel belongs to the mask from this probability on")
    class_mask_thresholds: dict[str, Probability] = Field(
        description="in place of it, for those of several classes that have a threshold of their own"
    )
    calibrated: bool = Field(
        description="whether probabilities were calibrated on the validation patients; if not, they are raw"
    )
    decision: str = Field(description="thresholds, calibration and post-processing in words")
    origin: str = Field(description="patients on which this was chosen, or why the configured values apply")


class ModelInfo(ApiModel):
    """The model, as its checkpoint describes it."""

    fingerprint: str
    stage: str = Field(description="training stage whose weights these are")
    model: dict[str, Any] = Field(description="architecture, encoder and head")
    preprocessing: dict[str, Any] = Field(description="applied to every upload exactly as in training")
    class_names: list[str]
    metrics: dict[str, float] = Field(description="validation metrics of these weights")
    data_name: str = Field(description="data set the model was trained on")
    synthetic: bool = Field(description="whether the model was trained on generated patients only")
    device: str
    backend: str = Field(description="what runs the model: torch, or onnx or openvino of its export")
    tasks: list[Task] = Field(description="what the model predicts")
    flips: bool = Field(description="test-time augmentation: mean over each slice and its mirror image")
    rotation: float = Field(
        description="test-time augmentation: mean over rotations by this many degrees to either side"
    )
    mask_smoothing: float = Field(
        description="standard deviation, in slices, of the average over neighbours' masks"
    )
    class_smoothing: float = Field(
        description="standard deviation, in slices, of the average over neighbours' probabilities"
    )
    operating_points: dict[Literal["volume", "picture"], OperatingInfo]
    max_upload_mib: int
    max_batch: int = Field(description="most files of a batch")
    notice: str = NOTICE


class Case(ApiModel):
    """A generated examination that comes with the demo."""

    name: str
    modalities: list[Modality]


class Lesions(ApiModel):
    """The connected parts of the mask of a class."""

    count: int
    voxels: list[int] = Field(description="voxels or pixels of each, largest first")
    ml: list[float] | None = Field(description="the volume of each; null where the files give no voxel size")


class Examination(OperatingInfo):
    """The fields of every prediction. Those of a task that the model does not have are null."""

    tumour_probability: Probability | None = Field(description="null with several classes")
    label: str | None = Field(description="`tumour` or `no_tumour`, or the name of one of several classes")
    verdict: str | None = Field(
        description="`label`, or `uncertain` where the probability is within `uncertain_band`"
    )
    uncertain_band: tuple[Probability, Probability] | None = Field(
        description="from and to which probability the verdict is uncertain; null with several classes"
    )
    lesions: dict[str, Lesions] = Field(description="by class of a pixel; empty without segmentation")
    class_probabilities: dict[str, Probability] = Field(
        description="of each of several classes; empty where there is only tumour or not"
    )
    tasks: list[Task] = Field(description="what the model predicts")
    mask_classes: list[str] = Field(
        description="the classes of a pixel in the order of their colours; empty for a model of one"
    )
    mask_exclusive: bool = Field(
        description="whether each pixel has its most probable class; no threshold applies then"
    )
    synthetic: bool = Field(description="whether the model was trained on generated patients only")
    warning: str | None = Field(description="limits of the prediction; null if none is known")
    note: str | None = Field(description="`file_notes` as one text; null without any")
    file_notes: list[str] = Field(description="warnings about the files, and as what DICOM series were read")
    warnings: list[str] = Field(description="what is to be said before the verdict")
    modalities: list[str] = Field(description="the slots that were filled")
    seconds: float
    fingerprint: str
    notice: str = NOTICE


class Links(ApiModel):
    """Addresses of what belongs to a result; those of a task that the model does not have are null."""

    id: str = Field(description="for /results/{id}/...; valid as long as the result is kept")
    image_urls: dict[str, str] = Field(
        description="of a volume each channel as NIfTI; of a picture `image` as PNG"
    )
    mask_url: str | None = Field(
        description="the mask on the grid of the upload: NIfTI with the number of the class in each voxel, "
        "or PNG of a picture"
    )
    probability_url: str | None = Field(description="the probability of a pixel, likewise, of 0 to 1")


class PictureExamination(Links, Examination):
    """The prediction for one picture."""

    kind: Literal["picture"] = "picture"
    tumour_share: float | None = Field(description="tumour pixels over brain pixels")
    picture_png: Png
    mask_png: Png | None = Field(description="PNG, base64, in the size of the picture: 255 tumour, 0 else")
    overlay_png: Png | None
    gradcam_png: Png | None = Field(default=None, description=_GRADCAM_DESCRIPTION)


class SliceExamination(ApiModel):
    """One axial slice of a volume."""

    index: int = Field(description="counted from 0 at the feet")
    probability: Probability | None = Field(
        description="of tumour, or of the class that is the label; null for a slice without brain"
    )
    tumour_mm2: float | None


class KeySlice(SliceExamination):
    """A slice to look at first."""

    overlay_png: Png | None
    gradcam_png: Png | None = Field(default=None, description=_GRADCAM_DESCRIPTION)


class Volumetry(ApiModel):
    """Slices and volumes of a tumour."""

    tumour_ml: float | None
    class_ml: dict[str, float | None] = Field(
        description="of each of several classes; empty for a model of one"
    )
    num_slices: int
    largest_slice: int | None = Field(
        description="the slice with the largest tumour area; null without a tumour"
    )
    slices: list[SliceExamination]


class VolumeExamination(Volumetry, Links, Examination):
    """The prediction for one volume."""

    kind: Literal["volume"] = "volume"
    key_slices: list[KeySlice]


AnyExamination = PictureExamination | VolumeExamination


class SliceProbability(ApiModel):
    """The classification of one slice."""

    index: int = Field(description="counted from 0 at the feet")
    probability: Probability | None = Field(
        description="of tumour, or of the class that is the label; null for a slice without brain"
    )


class Classification(Examination):
    """The class of one picture or volume."""

    kind: Literal["picture", "volume"]
    slices: list[SliceProbability]


class GradCamClassification(Classification):
    """The class of one picture or volume, and the evidence for it."""

    gradcam_slice: int = Field(description="the slice that is drawn: the one of the highest probability")
    gradcam_png: Png = Field(description=_GRADCAM_DESCRIPTION)


class Segmentation(Volumetry, Links, Examination):
    """Areas and volumes of one picture or volume."""

    kind: Literal["picture", "volume"]
    tumour_share: float | None = Field(description="of a picture: tumour pixels over brain pixels")


class Uncertainty(Segmentation):
    """Areas and volumes, and how far single passes over the case differ; the prediction is the same."""

    passes: int = Field(description="each model with each augmentation; of a single model without: four")
    probability_deviation: float | None = Field(
        description="standard deviation of the probability over the passes; null without classification"
    )
    volume_deviation_ml: float | None = Field(description="likewise; null where no voxel size is known")
    dice_of_passes: float | None = Field(description="mean Dice of every two passes; null if all are empty")
    largest_deviation: float = Field(description="of the probability of a pixel, over the whole case")


class Agreement(ApiModel):
    """Overlap of the predicted mask with the reference; both empty: 1."""

    dice: float
    iou: float
    reference_voxels: int
    predicted_voxels: int


class Truth(ApiModel):
    """The comparison with the reference that was sent; of several classes dice and iou are of all as one."""

    dice: float
    iou: float
    by_class: dict[str, Agreement]


class PatientExamination(VolumeExamination):
    """The prediction for one examination."""

    truth: Truth | None = Field(description="null if no reference was sent")
    truth_url: str | None = Field(description="the reference as NIfTI")
    dicom_seg_url: str | None = Field(description="the mask as DICOM-SEG; null for other files than DICOM")


T = TypeVar("T", bound=BaseModel)


class BatchItem(ApiModel, Generic[T]):
    """One file of a batch."""

    file: str = Field(description="the name of the upload")
    status: int = Field(description="the HTTP status code that the file alone would have had")
    result: T | None = None
    problem: Problem | None = None


class Batch(ApiModel, Generic[T]):
    """The files of a batch in their order."""

    results: list[BatchItem[T]]
    failed: int = Field(description="files with a problem")
    seconds: float


AnyFinding = PatientExamination | VolumeExamination | PictureExamination | Segmentation
"""What /results/{id} may return: the response that made the result"""
