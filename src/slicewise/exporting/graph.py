"""The module that is exported: a model in fp32 from prepared slices to probabilities.

Sigmoid or softmax and the calibration of the slices are in it. Before it lies what depends on a whole case
(the box around the brain, percentiles); after it what spans slices and rotated views (the 0 outside the
brain, smoothing, components): these are in NumPy, `slicewise.imaging` and `slicewise.inference`.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from slicewise.config.schema.model import TaskName
from slicewise.inference.calibration import Scaling
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskModel

INPUTS: Final = ("images", "presence")


class Calibrations(NamedTuple):
    """The scaling of the logits of a slice, of volumes and of pictures."""

    volume: Scaling = Scaling()
    picture: Scaling = Scaling()


_NONE: Final = Calibrations()


class ExportedGraph(nn.Module):
    """From images [B, C, N, N] and presence [B, C] to the outputs that `outputs` names, in its order.

    `mask_probability` [B, K, N, N], `class_probability` [B] or [B, C]; where the evaluation calibrated, also
    `volume_probability` and `picture_probability`, shaped like the latter: each slice by itself.
    """

    def __init__(self, checkpoint: Checkpoint, calibrations: Calibrations = _NONE) -> None:
        super().__init__()
        self.model: MultitaskModel = checkpoint.build().float().eval().requires_grad_(False)
        _fix_padding(self.model)
        tasks = checkpoint.tasks
        self._exclusive: dict[TaskName, bool] = {
            name: getattr(tasks, name).activation == "softmax" for name in tasks.names
        }
        self._several = bool(tasks.classification and tasks.classification.has_several)
        self._scalings = [
            (f"{kind}_probability", scaling)
            for kind, scaling in calibrations._asdict().items()
            if tasks.classification and scaling != Scaling()
        ]
        self.outputs: Sequence[str] = (
            *(["mask_probability"] if tasks.segmentation else []),
            *(["class_probability"] if tasks.classification else []),
            *(name for name, _ in self._scalings),
        )

    def forward(self, images: Tensor, presence: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs."""
        features = self.model.encoder(self.model.slot_tokens(images, presence))
        decoded, results = self.model.decode(features), []
        if "segmentation" in self._exclusive:
            logits = self.model.mask_head(decoded)
            masks = logits.softmax(1)[:, 1:] if self._exclusive["segmentation"] else logits.sigmoid()
            results.append(masks)
        if "classification" in self._exclusive:
            # The head's own maximum is a pooling of the size of its map, which graphs of any size cannot be.
            pooled = torch.cat([decoded.mean((2, 3)), decoded.amax((2, 3))], 1)
            logits = self.model.class_head.layers(pooled)
            results.append(self._classes(logits, Scaling()))
            results += [self._classes(logits, scaling) for _, scaling in self._scalings]
        return tuple(results)

    def _classes(self, logits: Tensor, scaling: Scaling) -> Tensor:
        """Return [B] of the second of two classes, or [B, C] of several."""
        if scaling != Scaling():
            two_of_softmax = self._exclusive["classification"] and not self._several
            if two_of_softmax:
                logits = (logits[:, 1:] - logits[:, :1]) / scaling.temperature + scaling.shift
                return logits.sigmoid()[:, 0]
            logits = logits / scaling.temperature + scaling.shift
        if self._several:
            return logits.softmax(1)
        return logits.softmax(1)[:, 1] if self._exclusive["classification"] else logits.sigmoid()[:, 0]


class _PaddedConv2d(nn.Module):
    """A convolution with TensorFlow's padding of images whose sides its stride divides: always the same."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        conv = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            0,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
        )
        conv.weight, conv.bias = layer.weight, layer.bias
        self.padding: list[int] = []
        for side in (1, 0):
            reach = layer.dilation[side] * (layer.kernel_size[side] - 1) + 1 - layer.stride[side]
            self.padding += [max(reach, 0) // 2, max(reach, 0) - max(reach, 0) // 2]
        self.conv = conv

    def forward(self, images: Tensor) -> Tensor:
        """Convolve [batch, channel, row, col]."""
        padded: Tensor = self.conv(nn.functional.pad(images, self.padding))
        return padded


def _fix_padding(module: nn.Module) -> None:
    """Replace the padding that timm computes from the size of each image: graphs would compute it, too."""
    for name, child in list(module.named_children()):
        if isinstance(child, Conv2dSame):
            setattr(module, name, _PaddedConv2d(child))
        else:
            _fix_padding(child)


def example(checkpoint: Checkpoint, batch: int, size: int | None = None) -> tuple[Tensor, Tensor]:
    """Return random images and presence, of which one channel is empty where there are several."""
    channels, draw = len(checkpoint.preprocessing.channels), torch.Generator().manual_seed(0)
    side = size or checkpoint.preprocessing.image_size
    presence = torch.ones(batch, channels)
    presence[0, 1:2] = 0
    return torch.randn(batch, channels, side, side, generator=draw), presence
