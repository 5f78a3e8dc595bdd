"""Whether an image can be a slice of a brain MRI: a head or brain, grey, on a dark background.

Nothing is learned here: each trait of an image (its outline, texture, grey values) has a range that slices of
public sets of brain MRI keep to, and an image that leaves these ranges by far, or in several traits by a
little, is implausible. The ranges and how often they are right: docs/explanation/plausibility.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slicewise.imaging.foreground import Background, foreground
from slicewise.imaging.regions import convex_hull, erode, largest_piece
from slicewise.imaging.resize import resize_to

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SIDE: Final = 128
"""The longer side of the image that is measured, in pixels"""
_LIMIT: Final = 1.0
"""An image is implausible if it leaves its ranges by more than this in sum"""
_LARGEST: Final = 2.0
"""Of what one trait adds to the sum"""
_BRIGHT_LINE, _LONGEST_FRAME = 0.85, 0.2
"""A row or column of a frame is light in this share; a frame is at most this share of the picture wide"""
_RIM: Final = 2
"""Pixels of the outline that are left out"""
_INK: Final = 0.12
"""Contrast, as a share of its 99th percentile, that is more than background"""

_COLOUR, _FRAME, _OUTLINE = (
    "it has colours",
    "it shows no head on a dark background",
    "its outline is not that of a head",
)
_TEXTURE, _GREY, _HALVES = (
    "its texture is not that of tissue",
    "its grey values are not those of tissue",
    "its halves are unlike",
)


class _Range(NamedTuple):
    """The values of a trait in brain MRI; outside, the distance is divided by `scale`."""

    low: float
    high: float
    scale: float
    reason: str

    def excess(self, value: float) -> float:
        outside = max(self.low - value, value - self.high, 0.0) / self.scale
        return min(outside, _LARGEST) if np.isfinite(outside) else _LARGEST


_ANY: Final = float("inf")
RANGES: Final[Mapping[str, _Range]] = {
    "colour": _Range(0.0, 0.05, 0.05, _COLOUR),
    "corners": _Range(0.0, 0.60, 0.20, _FRAME),
    "rim": _Range(0.0, 0.90, 0.10, _FRAME),
    "area": _Range(0.12, _ANY, 0.06, _FRAME),
    "solidity": _Range(0.85, _ANY, 0.10, _OUTLINE),
    "elongation": _Range(0.0, 1.50, 0.30, _OUTLINE),
    "ellipse": _Range(0.79, _ANY, 0.10, _OUTLINE),
    "extent": _Range(0.0, 0.945, 0.05, _OUTLINE),
    "offset": _Range(0.0, 0.125, 0.06, _OUTLINE),
    "width": _Range(0.66, 1.10, 0.20, _OUTLINE),
    "noise": _Range(0.12, 0.58, 0.20, _TEXTURE),
    "correlation": _Range(0.50, _ANY, 0.20, _TEXTURE),
    "detail": _Range(0.45, 1.60, 0.40, _TEXTURE),
    "gradient": _Range(0.013, _ANY, 0.006, _TEXTURE),
    "smooth": _Range(0.0, 0.37, 0.12, _TEXTURE),
    "entropy": _Range(3.1, _ANY, 0.60, _GREY),
    "mode": _Range(0.0, 0.33, 0.15, _GREY),
    "dark": _Range(0.0, 0.28, 0.15, _GREY),
    "bright": _Range(0.0, 0.60, 0.20, _GREY),
    "symmetry": _Range(0.0, _ANY, 0.40, _HALVES),
}
"""Trait -> its range; the traits are those of `measure`"""


@dataclass(frozen=True)
class Plausibility:
    """How far an image leaves the ranges of brain MRI, by trait; only those that it leaves."""

    excess: Mapping[str, float]

    @property
    def is_plausible(self) -> bool:
        return sum(self.excess.values()) <= _LIMIT

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against a brain MRI, the strongest first; empty for a plausible image."""
        if self.is_plausible:
            return ()
        ordered = sorted(self.excess, key=lambda trait: -self.excess[trait])
        return tuple(dict.fromkeys(RANGES[trait].reason for trait in ordered))


def judge(image: NDArray[Any], colour: float = 0.0) -> Plausibility:
    """Return how plausible a picture, or a slice seen from the feet, is as brain MRI.

    Args:
        image: [row, col], any real type.
        colour: the share of its pixels that are not grey.
    """
    excess = {"colour": RANGES["colour"].excess(colour)}
    excess |= {trait: RANGES[trait].excess(value) for trait, value in measure(image).items()}
    return Plausibility({trait: value for trait, value in excess.items() if value > 0})


def measure(image: NDArray[Any]) -> dict[str, float]:
    """Return the traits of an image; one without a foreground has the `area` 0 alone."""
    picture = _shrink(_without_frame(image.astype(np.float32)))
    background = Background.of(picture[None])
    contrast = background.contrast(background.image)[0]
    with np.errstate(over="ignore"):  # of values up to 3.4e38; infinity is clipped, too
        contrast = np.clip(contrast / max(float(np.percentile(contrast, 99)), 1e-6), 0.0, 1.0)
    head = foreground(picture[None, None], [True])[0]
    filled = largest_piece(head)
    inside = erode(filled, _RIM)
    if np.count_nonzero(inside) < 50:
        return {"area": 0.0}
    return {
        **dict(_surroundings(head, contrast)),
        **dict(_outline(filled)),
        **dict(_texture(contrast, inside)),
        **dict(_grey_values(contrast[inside])),
        "symmetry": _symmetry(contrast, filled),
    }


def _surroundings(head: Mask, contrast: Floats) -> Iterator[tuple[str, float]]:
    rows, cols = head.shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : cols * 1j]
    yield "area", float(head.mean())
    yield "rim", float(np.concatenate([head[0], head[-1], head[:, 0], head[:, -1]]).mean())
    yield "corners", float(np.mean(contrast[x**2 + y**2 > 1] > _INK))


def _outline(filled: Mask) -> Iterator[tuple[str, float]]:
    """Yield what tells the outline from an ellipse, by the second moments, and where it is."""
    rows, cols = filled.shape
    y, x = np.nonzero(filled)
    points = np.stack([x, y]).astype(np.float64)
    centre, spread = points.mean(axis=1), np.cov(points) + 1e-3 * np.eye(2)
    small, large = np.linalg.eigvalsh(spread)
    grid = np.stack(np.meshgrid(np.arange(cols), np.arange(rows))).reshape(2, -1) - centre[:, None]
    # A uniform ellipse ends at twice its standard deviation along each axis.
    ellipse = (np.einsum("ip,ij,jp->p", grid, np.linalg.inv(spread), grid) <= 4).reshape(rows, cols)
    width, height = np.ptp(x) + 1, np.ptp(y) + 1
    yield "solidity", float(filled.sum() / convex_hull(filled).sum())
    yield "elongation", float(np.sqrt(large / small))
    yield "ellipse", float(np.sum(ellipse & filled) / np.sum(ellipse | filled))
    yield "extent", float(filled.sum() / (width * height))
    yield "offset", float(np.hypot(centre[0] / cols - 0.5, centre[1] / rows - 0.5))
    yield "width", float(width / height)


def _texture(contrast: Floats, inside: NDArray[np.bool_]) -> Iterator[tuple[str, float]]:
    values = contrast[inside]
    deviation = float(values.std()) + 1e-3
    for name, sigma in (("noise", 1.0), ("detail", 6.0)):
        residual = contrast - _blur(contrast, sigma)
        yield name, float(residual[inside].std()) / deviation
    centred, pairs = contrast - values.mean(), inside[:, 1:] & inside[:, :-1]
    products = (centred[:, 1:] * centred[:, :-1])[pairs]  # none in a column of pixels
    yield "correlation", float(products.mean()) / deviation**2 if products.size else 0.0
    gradient = np.hypot(*np.gradient(contrast))[inside]
    yield "gradient", float(np.median(gradient))
    yield "smooth", float(np.mean(gradient < 0.01))


def _grey_values(values: Floats) -> Iterator[tuple[str, float]]:
    shares = np.bincount((values * 31.99).astype(int), minlength=32) / len(values)
    yield "entropy", float(-np.sum(shares[shares > 0] * np.log2(shares[shares > 0])))
    yield "mode", float(shares.max())
    yield "dark", float(np.mean(values < _INK))
    yield "bright", float(np.mean(values > 0.9))


def _symmetry(contrast: Floats, filled: Mask) -> float:
    """Return the correlation of the blurred halves, about the best of five axes near the centre."""
    cols, middle = filled.shape[1], round(float(np.nonzero(filled)[1].mean()))
    blurred, best = _blur(contrast, 2.0), -1.0
    for axis in range(middle - 4, middle + 5, 2):
        reach = min(axis, cols - 1 - axis)
        if reach < 8:
            continue
        both = filled[:, axis - reach : axis + 1]
        left = blurred[:, axis - reach : axis + 1][both]
        right = blurred[:, axis : axis + reach + 1][:, ::-1][both]
        if len(left) > 50 and left.std() > 1e-4 and right.std() > 1e-4:
            best = max(best, float(np.corrcoef(left, right)[0, 1]))
    return best


def _blur(image: Floats, sigma: float) -> Floats:
    """Return an image after a Gaussian filter; it is mirrored at its edges."""
    reach = round(4 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    for _ in range(2):
        padded = np.pad(image, ((reach, reach), (0, 0)), mode="reflect")
        shares = (weights / weights.sum()).astype(np.float32)
        image = sum(padded[step : step + len(image)] * share for step, share in enumerate(shares)).T
    return image


def _shrink(image: Floats) -> Floats:
    scale = _SIDE / max(image.shape)
    return resize_to(image, (max(8, round(image.shape[0] * scale)), max(8, round(image.shape[1] * scale))))


def _without_frame(image: Floats) -> Floats:
    """Return a picture without the light lines around it that some are published with."""
    low, high = np.percentile(image, [0.5, 99.5])
    light = image > low + 0.6 * (high - low)
    rows, cols = light.mean(axis=1) > _BRIGHT_LINE, light.mean(axis=0) > _BRIGHT_LINE
    top, bottom, left, right = map(_frame_width, (rows, rows[::-1], cols, cols[::-1]))
    inner = image[top : len(rows) - bottom, left : len(cols) - right]
    return inner if min(inner.shape) >= 16 else image


def _frame_width(lines: NDArray[np.bool_]) -> int:
    """Return the number of light lines at the edge, and two that are blurred."""
    width = int(np.argmin(lines[: int(len(lines) * _LONGEST_FRAME)])) if lines[0] else 0
    return width + 2 if width else 0
