"""Data augmentation of a whole batch: parameters are drawn first, then applied, so that each can be replayed.

Image and mask are resampled together. Contrast, brightness and noise change only filled slots inside the
brain, where the normalised image is not zero.
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
from torch.nn.functional import grid_sample, interpolate

from slicewise.config.schema import Augmentation
from slicewise.data.loading.dataset import Batch

Floats = NDArray[np.float32]

_CONTROL_POINTS: Final = 5
"""Per axis. With more points, a visible displacement would fold the image over itself."""
_MIN_SHARE: Final = 0.5
"""Smallest share of brain in a pixel of the brain, as in preprocessing."""
_NUM_STARTS: Final = 2**22
_BIAS_POINTS: Final = 3
"""Per axis: the sensitivity of a coil hardly varies faster."""
_OVERSHOOT: Final = 1.5
"""Upper bound of a bicubic field between its points relative to the points (1.49)."""


@dataclass(frozen=True)
class AugmentationParams:
    """The parameters of one batch; tensors on the CPU."""

    affine: Tensor | None
    """[batch, 2, 3], from output to input coordinates in -1..1; None leaves everything in place"""
    displacement: Tensor | None
    """[batch, 2, point, point], shift of a coarse grid of control points in the same coordinates"""
    contrast: Tensor
    """[batch, channel], factors"""
    brightness: Tensor
    """[batch, channel], z-score units"""
    keep: Tensor
    """[batch, channel], 0 where a modality is dropped"""
    noise: float
    """Standard deviation, z-score units"""
    noise_starts: tuple[int, ...]
    """[batch], start of each image's noise in the table"""
    bias: Tensor | None
    """[batch, 1, point, point], relative deviation of the coil sensitivity"""


def draw_augmentation(
    settings: Augmentation, modality_dropout: float, presence: Tensor, seed: int
) -> AugmentationParams:
    """Return random parameters for a batch with `presence` [batch, channel].

    They are drawn in NumPy: torch takes ten times as long for so few numbers.
    """
    rng = np.random.default_rng(seed)
    num_images = len(presence)
    contrast, brightness = settings.intensity * _symmetric(rng, 2, *presence.shape)
    moves = (settings.rotation, settings.scale, settings.translation, settings.elastic)
    geometric = any((settings.flip, settings.vertical_flip, *moves))
    affine = _draw_affine(settings, num_images, rng) if geometric else None
    displacement = bias = None
    if settings.elastic:
        points = rng.standard_normal((num_images, 2, _CONTROL_POINTS, _CONTROL_POINTS), np.float32)
        displacement = torch.from_numpy(2 * settings.elastic * points)
    keep = _draw_keep(modality_dropout, presence.numpy(), rng)
    noise_starts = tuple(rng.integers(_NUM_STARTS, size=num_images).tolist())
    if settings.bias:
        points = _symmetric(rng, num_images, 1, _BIAS_POINTS, _BIAS_POINTS)
        bias = torch.from_numpy(settings.bias / _OVERSHOOT * points)
    return AugmentationParams(
        affine=affine,
        displacement=displacement,
        contrast=torch.from_numpy(1 + contrast),
        brightness=torch.from_numpy(brightness),
        keep=keep,
        noise=settings.noise,
        noise_starts=noise_starts,
        bias=bias,
    )


def apply_augmentation(batch: Batch, changes: AugmentationParams) -> Batch:
    """Return an augmented copy of `batch`, on its device."""
    device, images, masks = batch.images.device, batch.images, batch.masks
    outside = images == 0
    if changes.affine is not None:
        images, masks, outside = _resample(images, masks, outside, changes)
    if changes.bias is not None:
        # One coil receives all modalities, so they share the smooth field. Zero signal is about the darkest
        # pixel of a slice, whatever its z-score: -1.6 in LGG, -3 in BraTS.
        gain = 1 + interpolate(changes.bias.to(device), size=images.shape[-2:], mode="bicubic")
        black = images.amin((2, 3), keepdim=True)
        images = torch.addcmul(black, images - black, gain)
    keep = changes.keep.to(device)
    factor, summand = (
        (keep * drawn.to(device))[:, :, None, None] for drawn in (changes.contrast, changes.brightness)
    )
    images = torch.addcmul(summand, images, factor)
    if changes.noise:
        size = images[0].numel()
        table = _noise_table(_NUM_STARTS + size, device)
        noise = torch.stack([table[start : start + size] for start in changes.noise_starts])
        images.addcmul_(noise.reshape(images.shape), changes.noise * keep[:, :, None, None])
    return replace(batch, images=images.masked_fill_(outside, 0), masks=masks, presence=batch.presence * keep)


@lru_cache(maxsize=2)
def _noise_table(size: int, device: torch.device) -> Tensor:
    """Return standard normal noise, drawn once: drawing it per batch costs half as much as all the rest.

    Evolution strategies share such a table (Salimans 2017).
    """
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)


def _resample(
    images: Tensor, masks: Tensor, outside: Tensor, changes: AugmentationParams
) -> tuple[Tensor, Tensor, Tensor]:
    """Resample images (bilinear) and masks (bilinear, then thresholded at 0.5) on the same grid.

    At the edge of the brain a pixel mixes with the 0 outside. As in preprocessing it is divided by its share
    of brain, and is outside where that is below `_MIN_SHARE`.
    """
    assert changes.affine is not None
    grid = _affine_grid(changes.affine.to(images.device), images.shape[-1])
    if changes.displacement is not None:
        shift = interpolate(changes.displacement.to(images.device), size=images.shape[-2:], mode="bicubic")
        grid = grid + shift.permute(0, 2, 3, 1)
    brain = (~outside.all(1, keepdim=True)).to(images.dtype)
    stacked = torch.cat([images, masks, brain], 1)
    moved = grid_sample(stacked, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    channels = images.shape[1]
    images, masks, share = moved[:, :channels], moved[:, channels:-1], moved[:, -1:]
    images = images / share.clamp(min=_MIN_SHARE)
    return images, (masks > 0.5).to(masks.dtype), (share < _MIN_SHARE) | (images == 0)


def _affine_grid(affine: Tensor, side: int) -> Tensor:
    """Return [batch, row, col, 2] as `torch.nn.functional.affine_grid` does, in a quarter of its time."""
    places = (torch.arange(side, device=affine.device) * 2 + 1) / side - 1  # the middles of pixels, -1..1
    across, down, shift = affine[:, None, None].unbind(-1)
    return torch.addcmul(torch.addcmul(shift, places[:, None, None], down), places[:, None], across)


def _draw_affine(settings: Augmentation, num_images: int, rng: Generator) -> Tensor:
    mirror = np.where(rng.random(num_images) < settings.flip, -1, 1)
    angle = math.radians(settings.rotation) * _symmetric(rng, num_images)
    zoom = 1 / (1 + settings.scale * _symmetric(rng, num_images))
    across, down = 2 * settings.translation * _symmetric(rng, 2, num_images)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    upside = np.ones(num_images, np.int64)
    if settings.vertical_flip:
        upside = np.where(rng.random(num_images) < settings.vertical_flip, -1, 1)
    left, right = (mirror * cos, -mirror * sin, across), (upside * sin, upside * cos, down)
    rows = np.array([left, right], np.float32)
    return torch.from_numpy(rows).permute(2, 0, 1).contiguous()


def _draw_keep(probability: float, presence: Floats, rng: Generator) -> Tensor:
    """Return [batch, channel] without those to drop: with `probability`, one to all filled ones are kept.

    Each number is as likely: dropping slots one by one would hardly ever leave a single one, as in a picture.
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
