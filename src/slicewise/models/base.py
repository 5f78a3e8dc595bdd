"""The adapter: what an architecture brings, whatever library it comes from.

The registry `config.schema.model.ARCHITECTURES` finds a builder by the name in `model.architecture`. Another
package offers one by an entry point of the group `slicewise.architectures`.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from slicewise.config.schema import Model


class Adapter(NamedTuple):
    """An architecture in its parts; `models.multitask` adds slot tokens and the classification head."""

    encoder: nn.Module
    """Images [batch, channel, row, col] to a list of feature maps, shallow to deep"""
    decoder: nn.Module
    """That list to one map [batch, `channels`, row, col], at full resolution or some octaves below"""
    mask_head: nn.Module
    """The decoder's map to logits [batch, class, row, col] at full resolution; its last layer is a Conv2d"""
    channels: int
    """Channels of the decoder's map"""
    stride: int
    """Rows and columns of the images must be multiples of this"""


Builder = Callable[[Model, int, int], Adapter]
"""(the `model` section, channels of the images, channels of the mask logits) to an adapter; initial weights
come from torch's global generator, or are pretrained"""
