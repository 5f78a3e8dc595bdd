"""Where the brain or the head is in an image."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slicewise.imaging.background import Background

_SAMPLES = 100_000
"""Voxels behind a percentile: the error of its rank is about 0.02 per cent."""
_STRIPPED_ZEROS = 0.10
"""A skull-stripped image is exactly 0 in at least this share of its voxels ..."""
_STRIPPED_FAINT = 0.04
"""... and at most this share of the others is nearly 0. BraTS: 0 to 0.02 per image; head MRI: above 0.06."""
_FAINT = 0.03
_FOREGROUND = 0.10
"""With a noisy background, the head exceeds this share of the 99th percentile."""
_FULL, _FRAMED = 0.90, 0.75
"""A head in more than the first share of a picture is a frame, less than the second, and what it encloses."""
_RIM = 0.015
"""Width that is cleared at the edge of a picture with a frame, as a share of its side."""
_MAX_STRAY = 4
"""Extreme pieces of at most so many pixels, apart from the brain in all slices, are removed."""
_SMALLEST_PIECE = 0.10
"""Pieces below this share of a slice's largest piece are annotations or noise."""


def foreground(images: NDArray[Any], presence: Sequence[bool]) -> NDArray[np.bool_]:
    """Return the mask of the brain (skull-stripped data) or of the head (everything else).

    In skull-stripped data it is every voxel that differs from the background (`background`) in some modality.
    Scanner output and JPEG pictures have noise in the background: there it is what stands out by more than
    10 % of the 99th percentile in some modality, in each slice without small separate pieces and with holes
    filled. The shares of voxels that are exactly background and almost background tell the two apart.

    Args:
        images: [channel, slice, row, col], any real type.
        presence: [channel], which of them hold an image.

    Returns:
        bool [slice, row, col]; all False when every filled slot is constant.
    """
    filled = [Background.of(image) for image, there in zip(images, presence, strict=True) if there]
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


def sample_voxels(inside: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the flat positions of some 100,000 voxels inside, spread evenly over all of them.

    The step has no factor in common with the length of a row or slice, so no row or column is left out.
    """
    step = max(1, int(np.count_nonzero(inside)) // _SAMPLES)
    while math.gcd(step, inside.shape[-1] * inside.shape[-2]) > 1:
        step -= 1
    return np.flatnonzero(inside.ravel()[::step]) * step


def _is_stripped(filled: Sequence[Background], inside: NDArray[np.bool_]) -> bool:
    """Return whether the background has no noise: few voxels are faint in every modality but not 0.

    In a two-sided image tissue is faint, too, as much of it as lies between one and two times as far away.
    """
    if np.count_nonzero(inside) > (1 - _STRIPPED_ZEROS) * inside.size:
        return False
    voxels = sample_voxels(inside)
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
    """Clear extreme voxels apart from the brain in all slices: they would widen the crop box."""
    flat = inside.any(axis=0).astype(np.uint8)
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(flat)
    areas = stats[1:, cv2.CC_STAT_AREA]
    small = 1 + np.flatnonzero((areas <= _MAX_STRAY) & (areas < areas.max()))
    if len(small):
        extreme = np.logical_or.reduce([channel.extreme().any(axis=0) for channel in filled])
        inside &= ~np.isin(pieces, np.intersect1d(small, pieces[extreme]))
    return inside


def _head(bright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return one slice's large pieces without a light frame, whose filled hole would be the whole picture."""
    filled = _large_pieces(bright)
    if np.count_nonzero(filled) <= _FULL * filled.size or np.count_nonzero(bright) >= _FRAMED * filled.size:
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
