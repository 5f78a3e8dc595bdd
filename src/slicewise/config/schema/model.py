"""The model: its tasks (which classes it segments, into which it classifies a slice) and its architecture."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from slicewise.config.schema.base import Count, CountOrZero, Fraction, Section
from slicewise.core.registry import Registry
from slicewise.domain.labels import MAX_CLASSES

LOSSES: Registry[object] = Registry(
    "losses",
    {name: f"slicewise.tasks.losses:{name}" for name in ("bce", "ce", "dice", "iou", "focal", "tversky")},
)
"""Segmentation losses by name; see `slicewise.tasks.losses` for their form."""

Activation = Literal["sigmoid", "softmax"]
ClassName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
Label = Annotated[int, Field(ge=1, le=255)]
TaskName = Literal["segmentation", "classification"]
Widths = tuple[tuple[str, tuple[Count, ...]], ...]
"""(name of a layer, its sizes) of each layer of a pruned model that the whole model has otherwise"""
_LOSS_ACTIVATIONS: dict[str, Activation] = {"bce": "sigmoid", "ce": "softmax"}
"""Losses that are defined for one activation only."""


class SegmentationSettings(Section):
    """The classes of a pixel. Null: the model does not segment."""

    classes: tuple[ClassName, ...] = Field(min_length=1)
    """Names of the classes, without the background."""
    labels: tuple[tuple[Label, ...], ...] | None
    """Labels of the stored masks that each class comprises; null: all labels for a single class, else label 1
    for the first class, 2 for the second, and so on."""
    activation: Activation
    """`sigmoid`: a class of its own, or several that may overlap; `softmax`: classes that exclude each other,
    and the background."""

    @property
    def num_channels(self) -> int:
        """Channels of the head; with softmax the first is the background."""
        return len(self.classes) + (self.activation == "softmax")

    @property
    def monitors(self) -> tuple[str, ...]:
        """Validation metrics: the mean Dice, and that of each of several classes."""
        return ("dice", *(f"dice_{name}" for name in self.classes if len(self.classes) > 1))

    def check_losses(self, weights: dict[str, float]) -> None:
        """Raise ValueError for a loss that the activation excludes."""
        for name, weight in weights.items():
            if weight and _LOSS_ACTIVATIONS.get(name, self.activation) != self.activation:
                other = next(each for each in _LOSS_ACTIVATIONS if each != name)
                raise ValueError(
                    f"training.mask_loss.{name} is {weight:g}, but tasks.segmentation.activation is "
                    f"{self.activation}; set training.mask_loss.{name}=0 and "
                    f"training.mask_loss.{other}={weight:g}"
                )

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_unique(self.classes)
        if self.labels is None:
            return self
        if len(self.labels) != len(self.classes) or not all(self.labels):
            raise ValueError(
                f"labels must list the labels of each of the {len(self.classes)} classes, as in "
                "classes=[whole,core] labels=[[1,2,3],[1,3]]; or set labels=null"
            )
        listed = [label for labels in self.labels for label in labels]
        if self.activation == "softmax" and len({*listed}) < len(listed):
            raise ValueError(
                "labels gives a label to several classes, which softmax excludes; set activation=sigmoid"
            )
        return self


class ClassificationSettings(Section):
    """The class of a slice. Null: the model does not classify."""

    classes: tuple[ClassName, ...] = Field(min_length=2, max_length=MAX_CLASSES)
    """Names of the classes in the order of their numbers. Of two the first is the absence of the other."""
    activation: Activation
    """`sigmoid`: a logit for the second of two classes; `softmax`: one for each, as several classes need."""

    @property
    def num_channels(self) -> int:
        """Logits of the head."""
        return len(self.classes) - (self.activation == "sigmoid")

    @property
    def has_several(self) -> bool:
        """Whether there is more to tell apart than the absence and the presence of one class."""
        return len(self.classes) > 2

    @property
    def monitors(self) -> tuple[str, ...]:
        """Validation metrics: the area under the ROC curve; of several classes also balanced accuracy."""
        return ("auc", "balanced_accuracy") if self.has_several else ("auc",)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_unique(self.classes)
        if self.has_several and self.activation == "sigmoid":
            raise ValueError(
                f"a slice has one of {len(self.classes)} classes, and activation is sigmoid; set "
                "tasks.classification.activation=softmax"
            )
        return self


class Tasks(Section):
    """The tasks of the model; null for one that it does not have."""

    segmentation: SegmentationSettings | None
    classification: ClassificationSettings | None

    @property
    def names(self) -> tuple[TaskName, ...]:
        """The tasks that there are, in order."""
        names: tuple[TaskName, ...] = ("segmentation", "classification")
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def monitors(self) -> tuple[str, ...]:
        """Validation metrics that a stage can monitor."""
        return tuple(name for task in self.names for name in getattr(self, task).monitors)

    def only(self, names: Collection[str]) -> Self:
        """Return the tasks of these names alone."""
        return self.model_copy(update={name: None for name in self.names if name not in names})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.names:
            raise ValueError("segmentation and classification are both null; keep one of them")
        return self


def _require_unique(classes: tuple[str, ...]) -> None:
    if len({*classes}) < len(classes):
        raise ValueError("classes names a class twice; give each a name of its own")


SMP_ARCHITECTURES: Final = (
    *("unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan", "deeplabv3", "deeplabv3plus"),
    *("upernet", "segformer"),
)
MONAI_ARCHITECTURES: Final = ("basic_unet", "dynunet", "segresnet")
ARCHITECTURES: Final = Registry[Any](
    "architectures",
    {
        **dict.fromkeys(SMP_ARCHITECTURES, "slicewise.models.adapters.smp:build"),
        **{name: f"slicewise.models.adapters.monai:{name}" for name in MONAI_ARCHITECTURES},
    },
)
"""Builders by name, see `slicewise.models.base`"""
_FIXED_DEPTHS: Final = {"pspnet": 3, "basic_unet": 4}
_SEGRESNET_GROUPS: Final = 8


class Model(Section):
    """An architecture of segmentation_models_pytorch, MONAI or another package; the classification head."""

    architecture: Annotated[str, AfterValidator(ARCHITECTURES.require)]
    """`unet`, `unetplusplus`, `manet`, `linknet`, `fpn`, `pspnet`, `pan`, `deeplabv3`, `deeplabv3plus`,
    `upernet` or `segformer` of segmentation_models_pytorch; `basic_unet`, `dynunet` or `segresnet` of MONAI;
    or one of another package. `slicewise models` lists them."""
    encoder: str | None
    """Encoder of segmentation_models_pytorch, or `tu-` and a name of timm. None for MONAI's architectures,
    which have one encoder each."""
    encoder_weights: str | None
    """Pretrained weights to download (`imagenet`); None: random initialisation, as always for MONAI's."""
    encoder_depth: Annotated[int, Field(ge=3, le=5)]
    """How often the encoder halves the resolution. `basic_unet`: 4."""
    decoder_width: Annotated[int, Field(ge=4, le=256)]
    """Channels of the finest decoder block of `unet`, `unetplusplus`, `manet` and MONAI's architectures;
    doubled in each coarser one."""
    head_hidden: CountOrZero
    """Width of the classification head's hidden layer; 0: a linear head."""
    head_dropout: Fraction
    """Dropout probability of the classification head."""
    head_input: Literal["decoder", "encoder"]
    """The map that the classification head pools. `decoder`: its map at full resolution, which masks teach to
    judge places. `encoder`: its deepest map, in which what ImageNet taught is; there is then no decoder, and
    so no segmentation."""
    widths: Widths | None
    """Sizes of the layers of a pruned model, which `slicewise export --prune` sets; null: the whole model."""

    @model_validator(mode="before")
    @classmethod
    def _accept_older(cls, value: Any) -> Any:
        """Take the section of a checkpoint that is older than `widths`."""
        return {"widths": None, **value} if isinstance(value, Mapping) else value

    @property
    def depth(self) -> int:
        """How often the encoder halves the resolution; PSPNet stops after three."""
        return _FIXED_DEPTHS.get(self.architecture, self.encoder_depth)

    @property
    def stride(self) -> int | None:
        """The number of which the image size must be a multiple; None: only the other package knows it."""
        known = self.architecture in (*SMP_ARCHITECTURES, *MONAI_ARCHITECTURES)
        return 1 << self.depth if known else None

    @model_validator(mode="after")
    def _check(self) -> Self:
        name = self.architecture
        if name in SMP_ARCHITECTURES and self.encoder is None:
            raise ValueError(f"encoder is null, but {name} needs one, for example model.encoder=resnet18")
        if name in MONAI_ARCHITECTURES:
            given = [key for key in ("encoder", "encoder_weights") if getattr(self, key) is not None]
            if given:
                nulls = " ".join(f"model.{key}=null" for key in given)
                raise ValueError(f"{name} has an encoder of its own, without pretrained weights; set {nulls}")
            if name == "basic_unet" and self.encoder_depth != self.depth:
                raise ValueError(f"basic_unet has depth {self.depth}; set model.encoder_depth={self.depth}")
            if name == "segresnet" and self.decoder_width % _SEGRESNET_GROUPS:
                raise ValueError(
                    f"segresnet normalises {_SEGRESNET_GROUPS} groups of channels; set model.decoder_width "
                    f"to a multiple of {_SEGRESNET_GROUPS}, not {self.decoder_width}"
                )
        return self
