"""Flips and rotations of test-time augmentation on arrays, as `torchvision` makes them on tensors."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def rotate(images: Floats, degrees: float) -> Floats:
    """Return images [..., row, col] rotated counter-clockwise, bilinear, 0 from outside."""
    if not degrees:
        return images
    rows, cols = images.shape[-2:]
    places, weights = _sampling(rows, cols, degrees)
    padded = np.zeros((*images.shape[:-2], rows * cols + 1), np.float32)
    padded[..., :-1] = images.reshape(*images.shape[:-2], rows * cols)
    total = np.zeros((*images.shape[:-2], rows * cols), np.float32)
    for place, weight in zip(places, weights, strict=True):
        total += padded[..., place] * weight
    return total.reshape(images.shape)


@lru_cache(maxsize=16)
def _sampling(rows: int, cols: int, degrees: float) -> tuple[NDArray[np.intp], Floats]:
    """Return the four neighbours [4, pixel] of each pixel's origin, and their weights.

    Neighbours outside are the number of pixels.
    """
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[:rows, :cols] - np.array([(rows - 1) / 2, (cols - 1) / 2])[:, None, None]
    source_x = np.cos(angle) * x - np.sin(angle) * y + (cols - 1) / 2
    source_y = np.sin(angle) * x + np.cos(angle) * y + (rows - 1) / 2
    left, top = np.floor(source_x), np.floor(source_y)
    places, weights = [], []
    for down in (0, 1):
        for right in (0, 1):
            row, col = top + down, left + right
            weight = (1 - np.abs(source_y - row)) * (1 - np.abs(source_x - col))
            inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
            place = np.where(inside, row * cols + col, rows * cols)
            places.append(place.ravel().astype(np.intp))
            weights.append(np.where(inside, weight, 0).ravel())
    return np.stack(places), np.stack(weights).astype(np.float32)
