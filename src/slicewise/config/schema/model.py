"""The network."""

from typing import Annotated, Literal

from pydantic import Field

from slicewise.config.schema.base import CountOrZero, Fraction, Section

Architecture = Literal[
    "unet", "unetplusplus", "fpn", "pspnet", "deeplabv3plus", "linknet", "manet", "segformer"
]


class Model(Section):
    """Encoder and decoder by their segmentation_models_pytorch names, and the classification head."""

    architecture: Architecture
    encoder: str
    """Its name there, or `tu-` and a name of timm."""
    encoder_weights: str | None
    """Pretrained weights to fetch (`imagenet`), or None for random initialisation."""
    encoder_depth: Annotated[int, Field(ge=3, le=5)]
    """Stages of the encoder, each half as wide as the one before; those below are left out."""
    decoder_width: Annotated[int, Field(ge=4, le=256)]
    """Channels of the finest decoder block of `unet`, `unetplusplus` and `manet`; every coarser one has twice
    as many."""
    head_hidden: CountOrZero
    """Width of the classification head's hidden layer; 0 for a linear head."""
    head_dropout: Fraction
    """Share of the pooled features that the classification head drops in training."""
