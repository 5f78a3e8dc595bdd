"""Where the brain or the head is in an image, and the background level around it.

Scanners and skull-stripping write 0. Other processing (z-scores, another range, an added constant, a white
page around it, a value outside the field of view) moves the background; it is then the value that fills the
rim. Everything is estimated from quantiles and shares, so no single voxel decides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from slicewise.imaging.regions import dilate, erode, label, large_pieces

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
_FILLED = 0.10
"""A background fills at least this share of an image ..."""
_FILLED_WITHIN = 0.25
"""... this share of what padding surrounds ..."""
_FILLED_RIM = 0.50
"""... and this share of its rim."""
_EXACT, _NOISY = 0.002, 0.05
"""Largest distance of background voxels from its level, without and with noise, as a share of the range."""
_RANGE = (2.0, 98.0)
"""Percentiles that bound the range. A background with noise lies near one of them ..."""
_AT_AN_END = 0.10
"""... within this share of it: tissue that the rim cuts lies between them."""
_LOWEST = 0.5
"""Percentile used as the level of an image without background."""
_MAX_BELOW = 0.001
"""At most this share lies below a constant that was added to an image."""
_DARK = 0.08
"""A level from 0 to this share of the 99th percentile is the black of scanners and JPEG; it counts as 0."""
_OUTSTANDING, _OPPOSITE = 0.10, 0.20
"""What stands out exceeds the first share of the 99th percentile of the contrast. In a two-sided image
more than the second share of that is darker. Ringing: 0.05."""
_GAP = 2
"""Pixels that such gaps are closed by, from both sides"""
_BLURRED = 0.015
"""Width of the JPEG blur between a page and the picture on it, as a share of the picture's side."""


def foreground(images: NDArray[Any], presence: Sequence[bool]) -> NDArray[np.bool_]:
    """Return the mask of the brain (skull-stripped data) or of the head (everything else).

    In skull-stripped data it is every voxel that differs from the background in some modality.
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
        inside |= channel.image != channel.image.dtype.type(channel.level)
    if not inside.any():
        return inside
    if _is_stripped(filled, inside):
        return _without_strays(inside, filled)
    inside[:] = False
    for channel in filled:
        inside |= channel.outstanding(_FOREGROUND)
    for index, bright in enumerate(inside):
        inside[index] = _head(bright)
    return inside


def sample_voxels(inside: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the flat positions of some 100,000 voxels inside, spread evenly over all of them.

    The step has no factor in common with the length of a row or slice, so no row or column is left out.
    """
    step = max(1, int(np.count_nonzero(inside)) // _SAMPLES)
    while math.gcd(step, inside.shape[-1] * inside.shape[-2]) > 1:
        step -= 1
    return np.flatnonzero(inside.ravel()[::step]) * step


def _is_stripped(filled: Sequence["Background"], inside: NDArray[np.bool_]) -> bool:
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
    below = [contrast < share * np.percentile(contrast, 99) for contrast in contrasts]
    return float(np.all(below, axis=0).mean())


def _without_strays(inside: NDArray[np.bool_], filled: Sequence["Background"]) -> NDArray[np.bool_]:
    """Clear extreme voxels apart from the brain in all slices: they would widen the crop box."""
    pieces, number = label(np.any(inside, axis=0))
    areas = np.bincount(pieces.ravel(), minlength=number + 1)[1:]
    small = 1 + np.flatnonzero((areas <= _MAX_STRAY) & (areas < areas.max()))
    if len(small):
        extreme = np.logical_or.reduce([channel.extreme().any(axis=0) for channel in filled])
        inside &= ~np.isin(pieces, np.intersect1d(small, pieces[extreme]))
    return inside


def _head(bright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return one slice's large pieces without a light frame, whose filled hole would be the whole picture."""
    filled = large_pieces(bright, _SMALLEST_PIECE)
    if np.count_nonzero(filled) <= _FULL * filled.size or np.count_nonzero(bright) >= _FRAMED * filled.size:
        return filled
    rim = max(2, round(_RIM * min(bright.shape)))
    inner = np.zeros_like(bright)
    inner[rim:-rim, rim:-rim] = bright[rim:-rim, rim:-rim]
    return large_pieces(inner, _SMALLEST_PIECE)


@dataclass(frozen=True)
class Background:
    """One image of a case and its background level."""

    image: NDArray[Any]
    """[slice, row, col], with padding replaced by the background"""
    level: float
    two_sided: bool
    """Whether tissue lies on both sides of the level (z-scores, 0 outside), or below it (white paper)"""

    @classmethod
    def of(cls, image: NDArray[Any]) -> Self:
        """Estimate the background of an image.

        Resampling writes a value of its own (-1024, say) outside the field of view, and a page surrounds a
        picture: voxels with this value that touch the rim become background.
        """
        values = _subsample(image)
        outer = _find_level(values, _rim(image))
        if outer is None:
            lowest = float(np.percentile(values, _LOWEST))
            level = 0.0 if _is_dark(values, lowest) else lowest
        else:
            padded = image
            image, level = _without_padding(padded, outer)
            values = values if image is padded else _subsample(image)
        contrast = values.astype(np.float32) - np.float32(level)
        least = _OUTSTANDING * np.percentile(np.abs(contrast), 99)
        below, above = np.count_nonzero(contrast < -least), np.count_nonzero(contrast > least)
        return cls(image, level, bool(below > _OPPOSITE * (below + above)))

    def contrast(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return how far values stand out from the background."""
        contrast = values.astype(np.float32)
        if self.level:
            contrast -= np.float32(self.level)
        return np.abs(contrast) if self.two_sided else contrast

    def extreme(self) -> NDArray[np.bool_]:
        """Return where the image is farther from the background, on either side, than 99 % of its voxels."""
        most = np.percentile(np.abs(self.contrast(_subsample(self.image))), 99)
        return np.asarray(np.abs(self.contrast(self.image)) > most)

    def outstanding(self, share: float) -> NDArray[np.bool_]:
        """Return where the contrast is more than `share` of its 99th percentile.

        In a two-sided image the contrast vanishes between the sides: these gaps are closed, and the share is
        doubled, since ringing is stronger.
        """
        share *= 2 if self.two_sided else 1
        least = share * float(np.percentile(self.contrast(_subsample(self.image)), 99))
        outstanding = np.asarray(self.contrast(self.image) > least)
        if self.two_sided:
            for index, page in enumerate(outstanding):
                outstanding[index] = erode(dilate(page, _GAP), _GAP)
        return outstanding


class _Level(NamedTuple):
    """A value that fills the rim, and the largest distance of its voxels from it."""

    value: float
    tolerance: float


def _find_level(values: NDArray[Any], rim: NDArray[Any], filled: float = _FILLED) -> _Level | None:
    """Return the level that fills the rim and much else; None where there is none."""
    low, high = (float(bound) for bound in np.percentile(values, _RANGE))
    if low >= high:
        low, high = float(values.min()), float(values.max())
    value = float(np.partition(rim, rim.size // 2)[rim.size // 2])
    at_an_end = min(abs(value - low), abs(high - value)) < _AT_AN_END * (high - low)
    tolerance = (high - low) * (_NOISY if at_an_end else _EXACT)
    if _share_near(rim, value, tolerance) < _FILLED_RIM or _share_near(values, value, tolerance) < filled:
        return _Level(0.0, 0.0) if np.count_nonzero(values == 0) >= _FILLED * values.size else None
    if low < 0 or not _is_dark(values, value):
        return _Level(value, tolerance)
    # An added constant occurs often, and hardly anything lies below it.
    is_constant = np.count_nonzero(values == value) >= _FILLED * len(values)
    is_constant &= np.count_nonzero(values < value) <= _MAX_BELOW * len(values)
    return _Level(value if is_constant else 0.0, tolerance)


def _is_dark(values: NDArray[Any], value: float) -> bool:
    return 0 <= value <= _DARK * float(np.percentile(values, 99))


def _without_padding(image: NDArray[Any], outer: _Level) -> tuple[NDArray[Any], float]:
    """Return an image and its background level; padding around the background takes its level."""
    if outer.value == 0:
        return image, 0.0
    padding = np.abs(image.astype(np.float32) - np.float32(outer.value)) <= outer.tolerance
    for index, page in enumerate(padding):
        pieces, _ = label(page, diagonal=False)
        padding[index] = page & np.isin(pieces, np.unique(_rim(pieces[None])))
    rest, beside = image[~padding], image[_beside_padding(padding)]
    inner = _find_level(_subsample(rest), beside, _FILLED_WITHIN) if rest.size and beside.size else None
    if inner is None:
        return image, outer.value
    return np.where(padding, image.dtype.type(inner.value), image), inner.value


def _beside_padding(padding: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels beside padding, a little away from it."""
    blurred = max(2, round(_BLURRED * min(padding.shape[1:])))
    beside = np.zeros_like(padding)
    for index, page in enumerate(padding):
        near = dilate(page, blurred)
        beside[index] = dilate(near, 1) & ~near
    return beside


def _subsample(image: NDArray[Any]) -> NDArray[Any]:
    """Return some 100,000 values, evenly spread over an image."""
    return np.ascontiguousarray(image.ravel()[:: max(1, image.size // _SAMPLES)])


def _rim(image: NDArray[Any]) -> NDArray[Any]:
    """Return the outermost rows and columns of all slices."""
    parts = (image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1])
    return np.concatenate([part.ravel() for part in parts])


def _share_near(values: NDArray[Any], level: float, tolerance: float) -> float:
    return float(np.mean(np.abs(values.astype(np.float32) - np.float32(level)) <= tolerance))
