"""The views of a slice that a network is asked about: itself, mirrored, turned; the mean answer counts."""

from typing import NamedTuple

import torch
from torch import Tensor

from slicewise.config.schema.asking import Asking


class View(NamedTuple):
    """A slice, left and right exchanged if `mirrored`, then turned counter-clockwise by so many degrees."""

    mirrored: bool = False
    degrees: float = 0.0

    def of(self, images: Tensor) -> Tensor:
        """Return images [batch, channel, row, col] as seen; 0 comes in where the slice turns away."""
        return _turned(images.flip(-1) if self.mirrored else images, self.degrees)

    def back(self, answers: Tensor) -> Tensor:
        """Return what was answered for the view [batch, channel, row, col], on the grid of the slice."""
        answers = _turned(answers, -self.degrees)
        return answers.flip(-1) if self.mirrored else answers


def coverage(view: View, images: Tensor) -> Tensor:
    """Return which share of each pixel of images [batch, channel, row, col] a view has: [1, 1, row, col]."""
    return view.back(view.of(torch.ones_like(images[:1, :1])))


def views(asking: Asking) -> tuple[View, ...]:
    """Return the views that a way of asking stands for, the plain slice first."""
    sides = (0.0, asking.rotation, -asking.rotation) if asking.rotation else (0.0,)
    return tuple(View(mirrored, side) for mirrored in (False, True)[: 1 + asking.flips] for side in sides)


def _turned(images: Tensor, degrees: float) -> Tensor:
    if not degrees:
        return images
    from torchvision.transforms.functional import InterpolationMode, rotate

    turned: Tensor = rotate(images, degrees, InterpolationMode.BILINEAR)
    return turned
