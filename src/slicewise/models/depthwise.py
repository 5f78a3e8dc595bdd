"""Depthwise convolutions that a CPU computes in fp32, where bfloat16 would be many times slower.

oneDNN has no fast bfloat16 kernel for two gradients of a depthwise convolution: that of weights larger than
3 x 3, and that of the images where the stride is 2. The latter takes 5.9 ms for images [8, 96, 49, 49] in
bfloat16, and 0.4 ms in fp32. An EfficientNet-Lite0 trains a third faster in fp32.
"""

from typing import Final

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

_FAST_KERNEL: Final = 3


class Fp32Conv2d(nn.Conv2d):
    """A convolution that computes in fp32 under bfloat16 autocast on a CPU, and returns autocast's type."""

    def forward(self, images: Tensor) -> Tensor:
        """Convolve [batch, channel, row, col]."""
        kind = images.device.type
        if kind != "cpu" or not torch.is_autocast_enabled(kind):
            return super().forward(images)
        with torch.autocast(kind, enabled=False):
            convolved = super().forward(images.float())
        return convolved.to(torch.get_autocast_dtype(kind))


class Fp32Conv2dSame(Fp32Conv2d, Conv2dSame):
    """The same for timm's convolution that pads as TensorFlow does."""


_FP32_CLASSES: Final[dict[type, type[Fp32Conv2d]]] = {nn.Conv2d: Fp32Conv2d, Conv2dSame: Fp32Conv2dSame}


def use_fp32_depthwise(model: nn.Module) -> None:
    """Let the slow depthwise convolutions of a model compute in fp32.

    Their class is exchanged in place, as `torch.nn.utils.parametrize` does it: names, weights and hooks stay.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and type(layer) in _FP32_CLASSES:
            depthwise = layer.groups == layer.in_channels > 1
            if depthwise and (max(layer.kernel_size) > _FAST_KERNEL or max(layer.stride) > 1):
                layer.__class__ = _FP32_CLASSES[type(layer)]
