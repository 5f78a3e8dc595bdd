"""Where the head is, and the one normalisation that preprocessing and serving share.

Every modality is clipped to robust percentiles inside the head and brought to mean 0 and standard deviation 1
there (z-score, Isensee 2021); outside it is 0. Volumes and pictures, training and prediction take this path.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slicewise.domain.labels import NUM_MODALITIES
from slicewise.imaging.background import Background

_SAMPLES = 100_000
"""Voxels behind a percentile: its rank is then off by about 0.02 per cent."""
_STRIPPED_ZEROS = 0.10
"""A skull-stripped image is exactly 0 in at least this share of its voxels ..."""
_STRIPPED_FAINT = 0.04
"""... and at most this share of the others is nearly 0. BraTS: 0 to 0.02 per image; head MRI: above 0.06."""
_FAINT = 0.03
_FOREGROUND = 0.10
"""With a noisy background the head is what exceeds this share of the 99th percentile."""
_FULL, _FRAMED = 0.90, 0.75
"""A picture is head in more than the first share only because a frame, less than the second, encloses it."""
_RIM = 0.015
"""What is cleared of a picture with a frame, as a share of its side."""
_MAX_STRAY = 4
"""Up to so many extreme pixels apart from the brain in all slices of stripped data are no brain."""
_SMALLEST_PIECE = 0.10
"""Pieces below this share of a slice's largest piece are annotations or noise."""


def foreground(images: NDArray[Any], presence: Sequence[bool]) -> NDArray[np.bool_]:
    """Return where the brain (skull-stripped data) or the head (everything else) is.

    Skull-stripped data say it exactly: any voxel that differs from the background (0, or what the rim shows:
    `background`) in some modality. Scanner output and JPEG pictures have noise in the background: there, what
    stands out by more than 10 % of the 99th percentile in some modality, in each slice without small separate
    pieces and with holes filled. Which of the two it is, is decided by how many voxels are exactly background
    and how many almost.

    Args:
        images: [4, slice, row, col], any real type.
        presence: which of the four slots are filled.

    Returns:
        bool [slice, row, col]; all False when every filled slot is constant.
    """
    filled = [Background.of(images[slot]) for slot in range(NUM_MODALITIES) if presence[slot]]
    inside = np.zeros(images.shape[1:], np.bool_)
    for channel in filled:
        inside |= channel.differs()
    if not inside.any():
        return inside
    if _is_stripped(filled, inside):
        return _without_strays(inside, filled)
    inside[:] = False
    for channel in filled:
        inside |= channel.outstanding(_FOREGROUND)
    for index in range(len(inside)):
        inside[index] = _head(inside[index])
    return inside


@dataclass(frozen=True)
class Scaling:
    """How one modality's raw intensities become z-scores."""

    low: float
    high: float
    mean: float
    std: float

    def apply(self, image: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the normalised image, 0 outside. A constant image becomes 0 everywhere."""
        scaled = image.astype(np.float32)
        np.clip(scaled, np.float32(self.low), np.float32(self.high), out=scaled)
        scaled -= np.float32(self.mean)
        scaled *= np.float32(1 / self.std if self.std > 0 else 0)
        scaled *= inside
        return scaled


def compute_scaling(
    images: NDArray[Any],
    inside: NDArray[np.bool_],
    presence: Sequence[bool],
    clip_percentiles: tuple[float, float],
) -> tuple[Scaling | None, ...]:
    """Return each slot's scaling from (evenly spaced) voxels inside; None for an empty slot.

    Args:
        images: [4, slice, row, col].
        inside: [slice, row, col] as from `foreground`; at least one voxel.
        presence: which of the four slots are filled.
        clip_percentiles: low and high, in per cent.
    """
    voxels = _sample(inside)
    return tuple(
        _scaling(images[slot].ravel()[voxels], clip_percentiles) if presence[slot] else None
        for slot in range(NUM_MODALITIES)
    )


def normalise(
    images: NDArray[Any],
    inside: NDArray[np.bool_],
    presence: Sequence[bool],
    clip_percentiles: tuple[float, float],
) -> NDArray[np.float32]:
    """Return z-scores [4, slice, row, col]: 0 outside and in empty slots. Arguments as `measure`."""
    result = np.zeros(images.shape, np.float32)
    for slot, scaling in enumerate(compute_scaling(images, inside, presence, clip_percentiles)):
        if scaling is not None:
            result[slot] = scaling.apply(images[slot], inside)
    return result


def _scaling(values: NDArray[Any], clip_percentiles: tuple[float, float]) -> Scaling:
    ordered = np.sort(values).astype(np.float64)
    low, high = (ordered[round((len(ordered) - 1) * share / 100)] for share in clip_percentiles)
    ordered = ordered.clip(low, high)
    return Scaling(float(low), float(high), float(ordered.mean()), float(ordered.std()))


def _sample(inside: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the flat positions of some 100,000 voxels inside, spread evenly over all of them.

    The step has no factor in common with the length of a row or slice, so no row or column is left out.
    """
    step = max(1, int(np.count_nonzero(inside)) // _SAMPLES)
    while math.gcd(step, inside.shape[-1] * inside.shape[-2]) > 1:
        step -= 1
    return np.flatnonzero(inside.ravel()[::step]) * step


def _is_stripped(filled: Sequence[Background], inside: NDArray[np.bool_]) -> bool:
    """Background noise shows as voxels that are faint in every modality but not 0.

    In an image that crosses its background tissue is faint too, as much of it as is twice as far away.
    """
    if np.count_nonzero(inside) > (1 - _STRIPPED_ZEROS) * inside.size:
        return False
    voxels = _sample(inside)
    contrasts = [np.abs(channel.contrast(channel.image.ravel()[voxels])) for channel in filled]
    faint = _share_below(contrasts, _FAINT)
    if any(channel.two_sided for channel in filled):
        faint -= _share_below(contrasts, 2 * _FAINT) - faint
    return faint <= _STRIPPED_FAINT


def _share_below(contrasts: Sequence[NDArray[np.float32]], share: float) -> float:
    below = np.ones(len(contrasts[0]), np.bool_)
    for contrast in contrasts:
        below &= contrast < share * np.percentile(contrast, 99)
    return float(below.mean())


def _without_strays(inside: NDArray[np.bool_], filled: Sequence[Background]) -> NDArray[np.bool_]:
    """Clear extreme voxels apart from the brain in all slices, which would widen the box around it."""
    flat = inside.any(axis=0).astype(np.uint8)
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(flat)
    areas = stats[1:, cv2.CC_STAT_AREA]
    small = 1 + np.flatnonzero((areas <= _MAX_STRAY) & (areas < areas.max()))
    if len(small):
        extreme = np.logical_or.reduce([channel.extreme().any(axis=0) for channel in filled])
        inside &= ~np.isin(pieces, np.intersect1d(small, pieces[extreme]))
    return inside


def _head(bright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return one slice's large pieces. A light frame around a picture would make all of it a filled hole."""
    filled = _large_pieces(bright)
    if not (
        np.count_nonzero(filled) > _FULL * filled.size and np.count_nonzero(bright) < _FRAMED * filled.size
    ):
        return filled
    rim = max(2, round(_RIM * min(bright.shape)))
    inner = np.zeros_like(bright)
    inner[rim:-rim, rim:-rim] = bright[rim:-rim, rim:-rim]
    return _large_pieces(inner)


def _large_pieces(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep one slice's large connected pieces and fill their holes."""
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(outline) for outline in outlines]
    largest = max(areas, default=0.0)
    filled = np.zeros(inside.shape, np.uint8)
    large = [line for line, area in zip(outlines, areas, strict=True) if area >= _SMALLEST_PIECE * largest]
    cv2.drawContours(filled, large, -1, color=1, thickness=cv2.FILLED)
    return filled.astype(np.bool_)
