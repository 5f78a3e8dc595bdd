"""Random changes to a whole batch: drawn first, then applied, so that each can be replayed.

Image and mask move together through one resampling. Contrast, brightness and noise touch only the inside of
the brain, where the normalised image is not zero, and only slots that are filled.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from slicewise.config.schema import Augmentation
from slicewise.data.loading.dataset import Batch
from slicewise.domain.labels import NUM_MODALITIES

Floats = NDArray[np.float32]

_CONTROL_POINTS: Final = 5
"""On a side. With more of them a displacement that can be seen would fold the image over itself."""
_MIN_SHARE: Final = 0.5
"""A pixel belongs to the brain from this share on, as in preprocessing."""
_NUM_STARTS: Final = 2**22
_BIAS_POINTS: Final = 3
"""On a side: a coil's sensitivity hardly varies faster."""
_OVERSHOOT: Final = 1.5
"""Between its points a bicubic field may be so many times as large as at them (1.49)."""


@dataclass(frozen=True)
class AugmentationParams:
    """What is done to one batch; tensors on the CPU."""

    affine: Tensor | None
    """[batch, 2, 3], from output to input coordinates in -1..1; None leaves everything in place"""
    displacement: Tensor | None
    """[batch, 2, point, point], shift of a coarse grid of control points in the same coordinates"""
    contrast: Tensor
    """[batch, 4], factors"""
    brightness: Tensor
    """[batch, 4], z-score units"""
    keep: Tensor
    """[batch, 4], 0 where a modality is dropped"""
    noise: float
    """Standard deviation, z-score units"""
    noise_starts: tuple[int, ...]
    """[batch], where each image's noise begins in the table"""
    bias: Tensor | None
    """[batch, 1, point, point], by which share the coil is more sensitive there than on the whole"""


def draw_augmentation(
    settings: Augmentation, modality_dropout: float, presence: Tensor, seed: int
) -> AugmentationParams:
    """Draw changes for a batch with `presence` [batch, 4].

    NumPy draws them: an operation on so few numbers takes torch ten times as long.
    """
    rng = np.random.default_rng(seed)
    num_images = len(presence)
    contrast, brightness = settings.intensity * _symmetric(rng, 2, *presence.shape)
    return AugmentationParams(
        affine=_draw_affine(settings, num_images, rng) if _is_geometric(settings) else None,
        displacement=_draw_displacement(settings, num_images, rng) if settings.elastic else None,
        contrast=torch.from_numpy(1 + contrast),
        brightness=torch.from_numpy(brightness),
        keep=_draw_keep(modality_dropout, presence.numpy(), rng),
        noise=settings.noise,
        noise_starts=tuple(rng.integers(_NUM_STARTS, size=num_images).tolist()),
        bias=_draw_bias(settings, num_images, rng) if settings.bias else None,
    )


def apply_augmentation(batch: Batch, changes: AugmentationParams) -> Batch:
    """Return a changed copy of `batch`, on the batch's device."""
    device = batch.images.device
    images, masks = batch.images, batch.masks
    outside = images == 0
    if changes.affine is not None:
        images, masks, outside = _resample(images, masks, outside, changes)
    if changes.bias is not None:
        images = _apply_bias(images, changes.bias.to(device))
    keep = changes.keep.to(device)
    factor, summand = (
        (keep * drawn.to(device))[:, :, None, None] for drawn in (changes.contrast, changes.brightness)
    )
    images = torch.addcmul(summand, images, factor)
    if changes.noise:
        images.addcmul_(_noise(changes, images), changes.noise * keep[:, :, None, None])
    return replace(batch, images=images.masked_fill_(outside, 0), masks=masks, presence=batch.presence * keep)


def _apply_bias(images: Tensor, bias: Tensor) -> Tensor:
    """Multiply what the scanner measured by a smooth field, the same for all modalities.

    One coil receives them all, so a network can learn from a plain modality what in FLAIR is the coil. No
    signal is about the darkest pixel of a slice, whatever its z-score: -1.6 in LGG, -3 in BraTS.
    """
    gain = 1 + interpolate(bias, size=images.shape[-2:], mode="bicubic")
    black = images.amin((2, 3), keepdim=True)
    return torch.addcmul(black, images - black, gain)


def _noise(changes: AugmentationParams, images: Tensor) -> Tensor:
    """Cut standard normal noise of the shape of `images` out of the table, for each image elsewhere."""
    size = images[0].numel()
    table = _noise_table(_NUM_STARTS + size, images.device)
    return torch.stack([table[start : start + size] for start in changes.noise_starts]).reshape(images.shape)


@lru_cache(maxsize=2)
def _noise_table(size: int, device: torch.device) -> Tensor:
    """Return standard normal noise, drawn once: to draw it anew takes half as long as all other changes.

    Evolution strategies share a table likewise (Salimans 2017).
    """
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)


def _resample(
    images: Tensor, masks: Tensor, outside: Tensor, changes: AugmentationParams
) -> tuple[Tensor, Tensor, Tensor]:
    """Move images (bilinear) and masks (bilinear, then the nearer side) through the same grid.

    At the edge of the brain a pixel mixes with the 0 outside: it is divided by its share of brain, or is
    outside where that is the smaller one, as preprocessing does.
    """
    assert changes.affine is not None
    grid = affine_grid(changes.affine.to(images.device), list(images.shape), align_corners=False)
    if changes.displacement is not None:
        shift = interpolate(changes.displacement.to(images.device), size=images.shape[-2:], mode="bicubic")
        grid = grid + shift.permute(0, 2, 3, 1)
    brain = (~outside.all(1, keepdim=True)).to(images.dtype)
    moved = _sample(torch.cat([images, masks, brain], 1), grid)
    images, masks, share = moved[:, :NUM_MODALITIES], moved[:, NUM_MODALITIES:-1], moved[:, -1:]
    images = images / share.clamp(min=_MIN_SHARE)
    return images, (masks > 0.5).to(masks.dtype), (share < _MIN_SHARE) | (images == 0)


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _is_geometric(settings: Augmentation) -> bool:
    return any((settings.flip, settings.rotation, settings.scale, settings.translation, settings.elastic))


def _draw_affine(settings: Augmentation, num_images: int, rng: Generator) -> Tensor:
    mirror = np.where(rng.random(num_images) < settings.flip, -1, 1)
    angle = math.radians(settings.rotation) * _symmetric(rng, num_images)
    zoom = 1 / (1 + settings.scale * _symmetric(rng, num_images))
    across, down = 2 * settings.translation * _symmetric(rng, 2, num_images)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    rows = np.array([[mirror * cos, -mirror * sin, across], [sin, cos, down]], np.float32)
    return torch.from_numpy(rows).permute(2, 0, 1).contiguous()


def _draw_displacement(settings: Augmentation, num_images: int, rng: Generator) -> Tensor:
    shape = (num_images, 2, _CONTROL_POINTS, _CONTROL_POINTS)
    return torch.from_numpy(2 * settings.elastic * rng.standard_normal(shape, np.float32))


def _draw_bias(settings: Augmentation, num_images: int, rng: Generator) -> Tensor:
    points = _symmetric(rng, num_images, 1, _BIAS_POINTS, _BIAS_POINTS)
    return torch.from_numpy(settings.bias / _OVERSHOOT * points)


def _draw_keep(probability: float, presence: Floats, rng: Generator) -> Tensor:
    """Keep, with `probability`, only some of an image's filled slots: one to all, each number as likely.

    Dropping slots one by one would hardly ever leave a single one, which is all that a plain picture has.
    """
    filled = presence > 0
    lots = np.where(filled, rng.random(presence.shape), -1)
    place = (-lots).argsort(1).argsort(1)
    num_filled = filled.sum(1)
    num_kept = 1 + (rng.random(len(presence)) * num_filled).astype(np.int64)
    num_left = np.where(rng.random(len(presence)) < probability, num_kept, num_filled)
    return torch.from_numpy(presence * (filled & (place < num_left[:, None])))


def _symmetric(rng: Generator, *shape: int) -> Floats:
    return 2 * rng.random(shape, np.float32) - 1
