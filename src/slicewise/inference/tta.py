"""Test-time augmentation (TTA): the mean prediction for a slice, its mirror image and their rotations."""

from typing import NamedTuple

import torch
from torch import Tensor

from slicewise.config.schema.evaluation import InferenceSettings


class TTATransform(NamedTuple):
    """A left-right flip if `flipped`, then a counter-clockwise rotation by `degrees`."""

    flipped: bool = False
    degrees: float = 0.0

    def apply(self, images: Tensor) -> Tensor:
        """Return transformed images [batch, channel, row, col]; pixels from outside the slice are 0."""
        return _rotate(images.flip(-1) if self.flipped else images, self.degrees)

    def inverse(self, outputs: Tensor) -> Tensor:
        """Return outputs for the transformed slice [batch, channel, row, col] on the grid of the slice."""
        outputs = _rotate(outputs, -self.degrees)
        return outputs.flip(-1) if self.flipped else outputs


def coverage(transform: TTATransform, images: Tensor) -> Tensor:
    """Return the share of each pixel that stays in view, [1, 1, row, col]."""
    return transform.inverse(transform.apply(torch.ones_like(images[:1, :1])))


def tta_transforms(inference: InferenceSettings) -> tuple[TTATransform, ...]:
    """Return the transforms of the settings, identity first."""
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
