"""The views of a slice that a network is asked about: itself, mirrored, turned; the mean answer counts."""

from typing import NamedTuple

import torch
from torch import Tensor

from slicewise.config.schema.inference import InferenceSettings


class TTATransform(NamedTuple):
    """A slice, left and right exchanged if `mirrored`, then turned counter-clockwise by so many degrees."""

    flipped: bool = False
    degrees: float = 0.0

    def apply(self, images: Tensor) -> Tensor:
        """Return images [batch, channel, row, col] as seen; 0 comes in where the slice turns away."""
        return _rotate(images.flip(-1) if self.flipped else images, self.degrees)

    def inverse(self, outputs: Tensor) -> Tensor:
        """Return what was answered for the view [batch, channel, row, col], on the grid of the slice."""
        outputs = _rotate(outputs, -self.degrees)
        return outputs.flip(-1) if self.flipped else outputs


def coverage(view: TTATransform, images: Tensor) -> Tensor:
    """Return which share of each pixel of images [batch, channel, row, col] a view has: [1, 1, row, col]."""
    return view.inverse(view.apply(torch.ones_like(images[:1, :1])))


def tta_transforms(inference: InferenceSettings) -> tuple[TTATransform, ...]:
    """Return the views that a way of asking stands for, the plain slice first."""
    angles = (0.0, inference.rotation, -inference.rotation) if inference.rotation else (0.0,)
    return tuple(
        TTATransform(flipped, angle) for flipped in (False, True)[: 1 + inference.flips] for angle in angles
    )


def _rotate(images: Tensor, degrees: float) -> Tensor:
    if not degrees:
        return images
    from torchvision.transforms.functional import InterpolationMode, rotate

    rotated: Tensor = rotate(images, degrees, InterpolationMode.BILINEAR)
    return rotated
