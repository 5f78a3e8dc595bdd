"""The architecture."""

from typing import Annotated, Literal

from pydantic import Field

from slicewise.config.schema.base import CountOrZero, Fraction, Section

Architecture = Literal[
    "unet", "unetplusplus", "fpn", "pspnet", "deeplabv3plus", "linknet", "manet", "segformer"
]


class Model(Section):
    """Encoder and decoder, by their names in segmentation_models_pytorch, and the classification head."""

    architecture: Architecture
    encoder: str
    """Name of the encoder, or `tu-` and a name of timm."""
    encoder_weights: str | None
    """Pretrained weights to download (`imagenet`); None: random initialisation."""
    encoder_depth: Annotated[int, Field(ge=3, le=5)]
    """Stages of the encoder; each halves the resolution."""
    decoder_width: Annotated[int, Field(ge=4, le=256)]
    """Channels of the finest decoder block of `unet`, `unetplusplus` and `manet`; doubled in each coarser
    one."""
    head_hidden: CountOrZero
    """Width of the classification head's hidden layer; 0: a linear head."""
    head_dropout: Fraction
    """Dropout probability of the classification head."""
