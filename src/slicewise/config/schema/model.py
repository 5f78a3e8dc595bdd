"""The architecture."""

from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, model_validator

from slicewise.config.schema.base import CountOrZero, Fraction, Section
from slicewise.core.errors import ConfigError
from slicewise.core.registry import Registry

SMP_ARCHITECTURES: Final = (
    *("unet", "unetplusplus", "fpn", "pspnet", "deeplabv3plus", "linknet", "manet", "segformer"),
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


def _check_name(name: str) -> str:
    if name not in ARCHITECTURES:
        try:
            ARCHITECTURES[name]
        except ConfigError as error:
            raise ValueError(str(error)) from error
    return name


class Model(Section):
    """An architecture of segmentation_models_pytorch, MONAI or another package; the classification head."""

    architecture: Annotated[str, AfterValidator(_check_name)]
    """`unet`, `unetplusplus`, `fpn`, `pspnet`, `deeplabv3plus`, `linknet`, `manet` or `segformer` of
    segmentation_models_pytorch; `basic_unet`, `dynunet` or `segresnet` of MONAI; or one of another
    package."""
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
