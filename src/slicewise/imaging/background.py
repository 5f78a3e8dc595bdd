"""Which value the background of an image has.

Scanners and skull-stripping write 0. What other programs make of an image (z-scores, another range, an added
constant, a page of paper around it, a value outside the field of view) moves the background; it is then the
value that fills the rim. No single voxel decides: everything is read from quantiles and shares.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

_SAMPLES = 100_000
_FILLED = 0.10
"""A background fills at least this share of an image ..."""
_FILLED_WITHIN = 0.25
"""... this share of what padding surrounds ..."""
_FILLED_RIM = 0.50
"""... and this share of its rim."""
_EXACT, _NOISY = 0.002, 0.05
"""How far the voxels of a background without and with noise lie from its level, as a share of the range."""
_RANGE = (2.0, 98.0)
"""Percentiles that bound the range. A background with noise lies near one of them ..."""
_AT_AN_END = 0.10
"""... within this share of it: tissue that the rim cuts lies between them."""
_LOWEST = 0.5
"""Percentile that stands in for a background where there is none."""
_MAX_BELOW = 0.001
"""At most this share lies below a constant that was added to an image."""
_DARK = 0.08
"""A level from 0 to this share of the 99th percentile is the black of scanners and JPEG; it counts as 0."""
_OUTSTANDING, _OPPOSITE = 0.10, 0.20
"""What stands out exceeds the first share of the 99th percentile of the contrast. An image crosses its
background if the second share of that is darker. Ringing: 0.05."""
_GAP = np.ones((5, 5), np.uint8)
_BLURRED = 0.015
"""Of a picture's side: what JPEG blurs between a page and the picture on it."""


@dataclass(frozen=True)
class Background:
    """One image of a case, and what tells its background from what it shows.

    Attributes:
        image: [slice, row, col], with padding replaced by the background.
        level: the value of the background.
        crosses: tissue lies on both sides of the level (z-scores with 0 outside), or below it (white paper).
    """

    image: NDArray[Any]
    level: float
    two_sided: bool

    @classmethod
    def of(cls, image: NDArray[Any]) -> Self:
        """Find the background of an image.

        Resampling writes a value of its own (-1024, say) outside the field of view, and a page surrounds a
        picture: what has this value and touches the rim becomes background.
        """
        outer = _find_level(_subsample(image), _rim(image))
        if outer is None:
            level = _lowest(_subsample(image))
        else:
            image, level = _without_padding(image, outer)
        return cls(image, level, _crosses(_subsample(image).astype(np.float32) - np.float32(level)))

    def differs(self) -> NDArray[np.bool_]:
        """Return where the image is not exactly the background."""
        return np.asarray(self.image != self.image.dtype.type(self.level))

    def contrast(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return how far values stand out from the background."""
        contrast = values.astype(np.float32)
        if self.level:
            contrast -= np.float32(self.level)
        return np.abs(contrast) if self.two_sided else contrast

    def extreme(self) -> NDArray[np.bool_]:
        """Return what is farther from the background, on either side, than 99 % of the image."""
        most = np.percentile(np.abs(self.contrast(_subsample(self.image))), 99)
        return np.asarray(np.abs(self.contrast(self.image)) > most)

    def outstanding(self, share: float) -> NDArray[np.bool_]:
        """Return where the contrast is more than `share` of its 99th percentile.

        An image that crosses its background stands out less where it does so: the gaps are closed. Its
        share is larger, since ringing around it is stronger.
        """
        least = (
            share
            * (2 if self.two_sided else 1)
            * float(np.percentile(self.contrast(_subsample(self.image)), 99))
        )
        outstanding = np.asarray(self.contrast(self.image) > least)
        if self.two_sided:
            for index, page in enumerate(outstanding.astype(np.uint8)):
                outstanding[index] = cv2.morphologyEx(page, cv2.MORPH_CLOSE, _GAP)
        return outstanding


class _Level(NamedTuple):
    """A value that fills the rim, and how far from it its voxels lie."""

    value: float
    near: float


def _find_level(values: NDArray[Any], rim: NDArray[Any], filled: float = _FILLED) -> _Level | None:
    """Return the level that fills the rim and much else; None where there is none."""
    low, high = _range(values)
    value = float(np.sort(rim)[rim.size // 2])
    at_an_end = min(abs(value - low), abs(high - value)) < _AT_AN_END * (high - low)
    near = (high - low) * (_NOISY if at_an_end else _EXACT)
    if _share_near(rim, value, near) < _FILLED_RIM or _share_near(values, value, near) < filled:
        return _Level(0.0, 0.0) if _has_black(values) else None
    black = low >= 0 and _is_dark(values, value) and not _is_floor(values, value)
    return _Level(0.0 if black else value, near)


def _lowest(values: NDArray[Any]) -> float:
    """Return what stands in for the background of an image that has none."""
    lowest = float(np.percentile(values, _LOWEST))
    return 0.0 if _is_dark(values, lowest) else lowest


def _is_dark(values: NDArray[Any], value: float) -> bool:
    return 0 <= value <= _DARK * float(np.percentile(values, 99))


def _is_floor(values: NDArray[Any], value: float) -> bool:
    """Whether a value is a constant that was added: exactly it is met often, and next to nothing below it."""
    exactly = np.count_nonzero(values == value) >= _FILLED * len(values)
    return bool(exactly and np.count_nonzero(values < value) <= _MAX_BELOW * len(values))


def _without_padding(image: NDArray[Any], outer: _Level) -> tuple[NDArray[Any], float]:
    """Return an image and its background. Where padding surrounds that, it is replaced by it."""
    if outer.value == 0:
        return image, 0.0
    padding = np.abs(image.astype(np.float32) - np.float32(outer.value)) <= outer.near
    for index, page in enumerate(padding):
        padding[index] = _touching_rim(page)
    rest, beside = image[~padding], image[_beside_padding(padding)]
    inner = _find_level(_subsample(rest), beside, _FILLED_WITHIN) if rest.size and beside.size else None
    if inner is None:
        return image, outer.value
    return np.where(padding, image.dtype.type(inner.value), image), inner.value


def _touching_rim(page: NDArray[np.bool_]) -> NDArray[np.bool_]:
    _, pieces = cv2.connectedComponents(page.astype(np.uint8), connectivity=4)
    return np.asarray(page & np.isin(pieces, np.unique(_rim(pieces[None]))))


def _beside_padding(padding: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels beside padding, a little away from it."""
    blurred = max(2, round(_BLURRED * min(padding.shape[1:])))
    beside = np.zeros_like(padding)
    for index, page in enumerate(padding.astype(np.uint8)):
        near, far = (cv2.dilate(page, np.ones((2 * reach + 1,) * 2)) for reach in (blurred, blurred + 1))
        beside[index] = far > near
    return beside


def _subsample(image: NDArray[Any]) -> NDArray[Any]:
    """Return some 100,000 values, evenly spread over an image."""
    values: NDArray[Any] = image.ravel()[:: max(1, image.size // _SAMPLES)]
    return values


def _rim(image: NDArray[Any]) -> NDArray[Any]:
    """Return the outermost rows and columns of all slices."""
    parts = (image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1])
    return np.concatenate([part.ravel() for part in parts])


def _has_black(values: NDArray[Any]) -> bool:
    return bool(np.count_nonzero(values == 0) >= _FILLED * values.size)


def _share_near(values: NDArray[Any], level: float, near: float) -> float:
    return float(np.mean(np.abs(values.astype(np.float32) - np.float32(level)) <= near))


def _range(values: NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(values, _RANGE)
    return (float(low), float(high)) if low < high else (float(values.min()), float(values.max()))


def _crosses(contrast: NDArray[np.float32]) -> bool:
    least = _OUTSTANDING * np.percentile(np.abs(contrast), 99)
    below, above = np.count_nonzero(contrast < -least), np.count_nonzero(contrast > least)
    return bool(below > _OPPOSITE * (below + above))
