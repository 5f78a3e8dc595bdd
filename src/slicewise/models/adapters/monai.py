"""Architectures of MONAI in two dimensions, built from the blocks of its own classes.

MONAI's classes run from the image to the logits. Here their blocks, with their initial weights, are arranged
as an encoder that returns every level, a decoder and a mask head; the result is the same.
"""

from collections.abc import Iterable
from typing import Any

from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from torch import Tensor, nn

from slicewise.config.schema import Model
from slicewise.models.base import Adapter

_BLOCKS_DOWN = (1, 2, 2, 4, 4, 4)
_MOST_FILTERS = 512


class _Encoder(nn.Module):
    """Blocks in a row; returns the output of each."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        levels = [images]
        for block in self.blocks:
            levels.append(block(levels[-1]))
        return levels[1:]


class _Decoder(nn.Module):
    """Blocks that take the map from below and the encoder's map of the same size, then `final`."""

    def __init__(self, blocks: Iterable[nn.Module], final: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.final = final or nn.Identity()

    def forward(self, levels: list[Tensor]) -> Tensor:
        decoded = levels[-1]
        for block, skip in zip(self.blocks, reversed(levels[:-1]), strict=True):
            decoded = block(decoded, skip)
        result: Tensor = self.final(decoded)
        return result


class _AddSkip(nn.Module):
    """A level of SegResNet's decoder: the map from below, enlarged, plus the encoder's map."""

    def __init__(self, enlarge: nn.Module, layers: nn.Module) -> None:
        super().__init__()
        self.enlarge, self.layers = enlarge, layers

    def forward(self, decoded: Tensor, skip: Tensor) -> Tensor:
        result: Tensor = self.layers(self.enlarge(decoded) + skip)
        return result


def basic_unet(settings: Model, in_channels: int, num_classes: int) -> Adapter:
    """The U-Net (Ronneberger 2015, Falk 2019) with instance normalisation.

    Its levels have 1, 2, 4, 8 and 16 times `decoder_width` channels; 64 gives the usual 31 million weights.
    """
    width = settings.decoder_width
    features = (*(width * 2**level for level in range(5)), width)
    net: Any = BasicUNet(spatial_dims=2, in_channels=in_channels, out_channels=num_classes, features=features)
    encoder = _Encoder([net.conv_0, net.down_1, net.down_2, net.down_3, net.down_4])
    decoder = _Decoder([net.upcat_4, net.upcat_3, net.upcat_2, net.upcat_1])
    return Adapter(encoder, decoder, net.final_conv, width, 1 << settings.depth)


def dynunet(settings: Model, in_channels: int, num_classes: int) -> Adapter:
    """nnU-Net's network (Isensee 2021): strided convolutions, instance normalisation, leaky ReLU.

    Its levels have `decoder_width` channels (nnU-Net: 32), doubled with each halving up to 512. It is one
    configuration, not nnU-Net's planning; there is no deep supervision.
    """
    strides = [1] + [2] * settings.depth
    net: Any = DynUNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=num_classes,
        kernel_size=[3] * len(strides),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[min(settings.decoder_width * 2**level, _MOST_FILTERS) for level in range(len(strides))],
    )
    encoder = _Encoder([net.input_block, *net.downsamples, net.bottleneck])
    return Adapter(
        encoder, _Decoder(net.upsamples), net.output_block, settings.decoder_width, 1 << settings.depth
    )


def segresnet(settings: Model, in_channels: int, num_classes: int) -> Adapter:
    """SegResNet (Myronenko 2018) without its variational autoencoder: residual blocks, group normalisation.

    Its levels have `decoder_width` channels (Myronenko: 32), doubled with each halving; his depth is 3.
    """
    net: Any = SegResNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=num_classes,
        init_filters=settings.decoder_width,
        blocks_down=_BLOCKS_DOWN[: settings.depth + 1],
        blocks_up=(1,) * settings.depth,
    )
    first, *deeper = net.down_layers
    norm, activation, head = net.conv_final
    ups = [_AddSkip(enlarge, layers) for enlarge, layers in zip(net.up_samples, net.up_layers, strict=True)]
    return Adapter(
        _Encoder([nn.Sequential(net.convInit, first), *deeper]),
        _Decoder(ups, nn.Sequential(norm, activation)),
        head,
        settings.decoder_width,
        1 << settings.depth,
    )
