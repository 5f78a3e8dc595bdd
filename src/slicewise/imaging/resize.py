"""Images of another size: means over areas, linear interpolation. The same bits with OpenCV and without.

Where OpenCV is installed it does the work, in a fifth of the time; the arithmetic in NumPy is for
installations without it, and adds in OpenCV's order (modules/imgproc/src/resize.cpp, Apache 2.0): a mask must
not depend on what else is installed.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.imaging.opencv import cv2

Floats = NDArray[np.float32]
Size = tuple[int, int]
_LEAST_SHARE: Final = 1e-3
"""Of a pixel, that still counts in a mean"""


def resize_image(image: Floats, size: Size) -> Floats:
    """Resize an image [row, col] or [row, col, <= 4]: down by the mean over areas, up linearly.

    Where one axis shrinks and the other grows, as with pixels that are not square, the shrinking one is
    resized first: OpenCV takes means over areas only where neither axis grows.
    """
    if (shape := image.shape[:2]) == size:
        return image
    shrinks, grows = np.less(size, shape), np.greater(size, shape)
    if shrinks.any() and grows.any():
        rows, cols = np.minimum(size, shape).tolist()
        return resize_image(resize_image(image, (rows, cols)), size)
    if cv2 is None:
        return mean_over_areas(image, size) if shrinks.any() else interpolate(image, size)
    method = cv2.INTER_AREA if shrinks.any() else cv2.INTER_LINEAR
    resized: Floats = cv2.resize(image, size[::-1], interpolation=method)
    return resized


def resize_channels(images: Sequence[Floats], size: Size) -> Sequence[Floats]:
    """Resize up to four images [row, col] at once, each as if alone."""
    if cv2 is None:
        return [resize_image(image, size) for image in images]
    resized: Sequence[Floats] = cv2.split(resize_image(cv2.merge(images), size))
    return resized


def multiply_to_half(image: Floats, weights: Floats) -> NDArray[np.float16]:
    """Return the product in float16; OpenCV takes a sixth of the time."""
    if cv2 is not None:
        return np.asarray(cv2.multiply(image, weights, dtype=cv2.CV_16F))
    with np.errstate(over="ignore"):
        return (image * weights).astype(np.float16)


def mean_over_areas(image: Floats, size: Size) -> Floats:
    """Return each pixel's mean over the area of the image that it covers; neither axis grows."""
    scales = [1.0 / (new / old) for new, old in zip(size, image.shape[:2], strict=True)]
    if all(abs(scale - round(scale)) < np.finfo(np.float64).eps for scale in scales):
        return _mean_over_blocks(image, size, (round(scales[0]), round(scales[1])))
    across = _weighted_sum(image.swapaxes(0, 1), *_shares(image.shape[1], size[1])).swapaxes(0, 1)
    return _weighted_sum(across, *_shares(image.shape[0], size[0]))


def _weighted_sum(image: Floats, places: NDArray[np.intp], weights: Floats) -> Floats:
    """Return the sum over taps [tap, place] of rows of an image, in their order."""
    total: Floats | None = None
    for place, weight in zip(places, weights, strict=True):
        part = image[place] * weight.reshape(-1, *(1,) * (image.ndim - 1))
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total


@lru_cache(maxsize=64)
def _shares(old: int, new: int) -> tuple[NDArray[np.intp], Floats]:
    """Return which pixels each new one covers along an axis [tap, new], and their shares of it."""
    scale, taps = 1.0 / (new / old), []
    for place in range(new):
        start, end = place * scale, place * scale + scale
        width = min(scale, old - start)
        last = min(int(end), old - 1)
        first = min(int(np.ceil(start)), last)
        own = [(first - 1, (first - start) / width)] if first - start > _LEAST_SHARE else []
        own += [(whole, 1.0 / width) for whole in range(first, last)]
        own += [(last, min(end - last, 1.0, width) / width)] if end - last > _LEAST_SHARE else []
        taps.append(own)
    depth = max(map(len, taps))
    padded = [[*own, *[(0, 0.0)] * (depth - len(own))] for own in taps]
    table = np.array(padded, np.float64).transpose(2, 1, 0)
    return table[0].astype(np.intp), table[1].astype(np.float32)


def _mean_over_blocks(image: Floats, size: Size, block: Size) -> Floats:
    """Return means over blocks of whole pixels: four at a time are added, as OpenCV does."""
    (rows, cols), (down, across) = size, block
    parts = [image[top::down, left::across][:rows, :cols] for top in range(down) for left in range(across)]
    share = np.float32(1.0 / (down * across))
    if block == (2, 2) and (image.ndim == 2 or image.shape[2] == 4):  # in registers of four floats
        one, two, three, four = parts
        pairs: Floats = ((one + two) + (three + four)) * share
        if image.ndim == 2 and (rest := cols % 4):
            pairs[:, -rest:] = ((((one + two) + three) + four) * share)[:, -rest:]
        return pairs
    total = np.zeros_like(parts[0])
    for start in range(0, len(parts) - 3, 4):
        one, two, three, four = parts[start : start + 4]
        total += ((one + two) + three) + four
    for part in parts[len(parts) // 4 * 4 :]:
        total += part
    return total * share


def interpolate(image: Floats, size: Size, *, areas: bool = False) -> Floats:
    """Return linear interpolation between the centres of pixels; neither axis shrinks.

    With `areas` the pixels keep sharp edges: only new pixels that two of them cover are between them.
    """
    across = _between(image.swapaxes(0, 1), size[1], areas=areas, ends=True).swapaxes(0, 1)
    return _between(across, size[0], areas=areas, ends=False)


def _between(image: Floats, new: int, *, areas: bool, ends: bool) -> Floats:
    """Return rows of an image at `new` places; `ends`: the rows beyond the first and last count once."""
    first, share = _places(image.shape[0], new, areas)
    last = image.shape[0] - 1
    share = np.where((first < 0) | (first >= last), np.float32(0), share) if ends else share
    share = share.reshape(-1, *(1,) * (image.ndim - 1))
    one, other = image[first.clip(0, last)], image[(first + 1).clip(0, last)]
    between: Floats = one * (np.float32(1) - share) + other * share
    return between


@lru_cache(maxsize=64)
def _places(old: int, new: int, areas: bool) -> tuple[NDArray[np.intp], Floats]:  # of a cache
    """Return the pixel before each new one along an axis, and the share of the next one."""
    scale, numbers = 1.0 / (new / old), np.arange(new)
    if areas:
        first = np.floor(numbers * scale)
        places = ((numbers + 1) - (first + 1) * (new / old)).astype(np.float32)
        return first.astype(np.intp), np.where(places <= 0, np.float32(0), places - np.floor(places))
    places = ((numbers + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(places)
    return first.astype(np.intp), (places - first).astype(np.float32)


def resize_to(image: Floats, size: Size) -> Floats:
    """Resize an image [row, col] with sharp edges: down by means over areas, up likewise (INTER_AREA)."""
    if np.any(np.greater(size, image.shape)):
        return interpolate(image, size, areas=True)
    return image if image.shape == size else mean_over_areas(image, size)
