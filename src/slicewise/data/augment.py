"""Random changes to a whole batch: drawn first, then applied, so that each can be replayed.

Image and mask move together through one resampling. Contrast, brightness and noise touch only the inside of
the brain, where the normalised image is not zero, and only slots that are filled.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from slicewise.config.schema import Augmentation
from slicewise.data.batches import Batch

_CONTROL_POINTS: Final = 8


@dataclass(frozen=True)
class Changes:
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
    noise_seed: int


def draw_changes(
    settings: Augmentation, modality_dropout: float, presence: Tensor, size: int, generator: torch.Generator
) -> Changes:
    """Draw changes for a batch with `presence` [batch, 4] and slices of `size` pixels."""
    num_images = len(presence)
    spread = settings.intensity * _symmetric((2, *presence.shape), generator)
    return Changes(
        affine=_draw_affine(settings, num_images, generator) if _moves(settings) else None,
        displacement=_draw_displacement(settings, num_images, size, generator) if settings.elastic else None,
        contrast=1 + spread[0],
        brightness=spread[1],
        keep=_draw_keep(modality_dropout, presence, generator),
        noise=settings.noise,
        noise_seed=int(torch.randint(2**62, (), generator=generator)),
    )


def apply_changes(batch: Batch, changes: Changes) -> Batch:
    """Return a changed copy of `batch`, on the batch's device."""
    device = batch.images.device
    images, masks = batch.images, batch.masks
    if changes.affine is not None:
        images, masks = _resample(images, masks, changes)
    keep = changes.keep.to(device)
    inside = (images != 0) & (keep * batch.presence)[:, :, None, None].bool()
    images = images * changes.contrast.to(device)[:, :, None, None]
    images += changes.brightness.to(device)[:, :, None, None]
    if changes.noise:
        generator = torch.Generator(device).manual_seed(changes.noise_seed)
        images += changes.noise * torch.empty_like(images).normal_(generator=generator)
    return replace(batch, images=images * inside, masks=masks, presence=batch.presence * keep)


def _resample(images: Tensor, masks: Tensor, changes: Changes) -> tuple[Tensor, Tensor]:
    """Move images (bilinear) and masks (bilinear, then the nearer side) through the same grid."""
    assert changes.affine is not None
    both = torch.cat([images, masks], 1)
    grid = affine_grid(changes.affine.to(both.device), list(both.shape), align_corners=False)
    if changes.displacement is not None:
        shift = interpolate(changes.displacement.to(both.device), size=both.shape[-2:], mode="bicubic")
        grid = grid + shift.permute(0, 2, 3, 1)
    moved = grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved[:, :-1], (moved[:, -1:] > 0.5).to(masks.dtype)


def _moves(settings: Augmentation) -> bool:
    return any((settings.flip, settings.rotation, settings.scale, settings.translation, settings.elastic))


def _draw_affine(settings: Augmentation, num_images: int, generator: torch.Generator) -> Tensor:
    mirror = 1 - 2 * (torch.rand(num_images, generator=generator) < settings.flip).float()
    angle = math.radians(settings.rotation) * _symmetric((num_images,), generator)
    zoom = 1 / (1 + settings.scale * _symmetric((num_images,), generator))
    shift = 2 * settings.translation * _symmetric((num_images, 2, 1), generator)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    turn = torch.stack([mirror * cos, -mirror * sin, sin, cos], 1).reshape(num_images, 2, 2)
    return torch.cat([turn, shift], 2)


def _draw_displacement(
    settings: Augmentation, num_images: int, size: int, generator: torch.Generator
) -> Tensor:
    pixel = 2 / size
    shape = (num_images, 2, _CONTROL_POINTS, _CONTROL_POINTS)
    return settings.elastic * pixel * torch.randn(shape, generator=generator)


def _draw_keep(probability: float, presence: Tensor, generator: torch.Generator) -> Tensor:
    """Keep, with `probability`, only some of an image's filled slots: one to all, each number as likely.

    Dropping slots one by one would hardly ever leave a single one, which is all that a plain picture has.
    """
    filled = presence.bool()
    lots = torch.rand(presence.shape, generator=generator).masked_fill(~filled, -1.0)
    place = lots.argsort(1, descending=True).argsort(1)
    num_filled = filled.sum(1, keepdim=True)
    num_kept = 1 + (torch.rand(num_filled.shape, generator=generator) * num_filled).long()
    thinned = torch.rand(num_filled.shape, generator=generator) < probability
    return ((place < torch.where(thinned, num_kept, num_filled)) & filled).float() * presence


def _symmetric(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(shape, generator=generator) - 1
