"""The network."""

from typing import Annotated, Final, Literal

from pydantic import Field

from slicewise.config.schema.section import CountOrZero, Fraction, Section

Architecture = Literal[
    "unet", "unetplusplus", "fpn", "pspnet", "deeplabv3plus", "linknet", "manet", "segformer"
]

STANDARD_DECODER_WIDTH: Final = 16
"""What segmentation_models_pytorch gives to a decoder that nobody asked to be narrower."""


class Model(Section):
    """Encoder and decoder by their segmentation_models_pytorch names, and the classification head."""

    architecture: Architecture
    encoder: str
    encoder_weights: str | None
    """Pretrained weights to fetch (`imagenet`), or None for random initialisation."""
    encoder_depth: Annotated[int, Field(ge=3, le=5)]
    decoder_width: Annotated[int, Field(ge=4, le=256)] = STANDARD_DECODER_WIDTH
    """Channels of the finest decoder block of `unet`, `unetplusplus` and `manet`; every coarser one has twice
    as many. Networks saved before there was a choice have the standard width."""
    head_hidden: CountOrZero
    """Width of the classification head's hidden layer; 0 for a linear head."""
    head_dropout: Fraction
