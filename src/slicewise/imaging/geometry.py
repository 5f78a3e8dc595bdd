"""Where slices were cut from a volume, how they are resized, and the way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from slicewise.domain.labels import TUMOUR_LABELS


@dataclass(frozen=True)
class Geometry:
    """Where the slices were cut from. The box may reach over the volume's edge; what is there is 0."""

    shape: tuple[int, int, int]
    """(slices, rows, columns) of the volume."""
    top: int
    left: int
    height: int
    width: int
    indices: tuple[int, ...]
    """Which slice of the volume each kept slice is."""

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the box of one [row, col] image."""
        rows, cols, inner_rows, inner_cols = self._overlap()
        if (rows.stop - rows.start, cols.stop - cols.start) == (self.height, self.width):
            return image[rows, cols]
        box = np.zeros((self.height, self.width), image.dtype)
        box[inner_rows, inner_cols] = image[rows, cols]
        return box

    def paste(self, box: NDArray[Any], image: NDArray[Any]) -> None:
        """Write a box back into one [row, col] image."""
        rows, cols, inner_rows, inner_cols = self._overlap()
        image[rows, cols] = box[inner_rows, inner_cols]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `indices` are stored once, beside this, by the store."""
        return {"shape": list(self.shape), "box": [self.top, self.left, self.height, self.width]}

    @classmethod
    def from_json(cls, value: dict[str, Any], indices: Sequence[int]) -> Self:
        slices, rows, cols = (int(size) for size in value["shape"])
        top, left, height, width = (int(number) for number in value["box"])
        return cls((slices, rows, cols), top, left, height, width, tuple(indices))

    def _overlap(self) -> tuple[slice, slice, slice, slice]:
        _, rows, cols = self.shape
        top, bottom = max(self.top, 0), min(self.top + self.height, rows)
        left, right = max(self.left, 0), min(self.left + self.width, cols)
        inner_rows = slice(top - self.top, bottom - self.top)
        return slice(top, bottom), slice(left, right), inner_rows, slice(left - self.left, right - self.left)


def restore_to_volume(masks: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """Put masks (bool or uint8 labels) or probabilities (float) [S, N, N] back onto the volume's grid.

    Returns:
        [slices, rows, columns] of the same type; slices that were dropped are 0.
    """
    result = np.zeros(geometry.shape, masks.dtype)
    size = (geometry.height, geometry.width)
    for source, index in zip(masks, geometry.indices, strict=True):
        if not source.any():
            continue
        is_probability = masks.dtype.kind == "f"
        box: NDArray[Any] = (
            resize_image(source.astype(np.float32), size)
            if is_probability
            else resize_labels(source.astype(np.uint8), size)
        )
        geometry.paste(box.astype(masks.dtype), result[index])
    return result


def resize_image(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize one image to (rows, columns): down by the mean over areas, so nothing aliases; up linearly.

    Where one axis shrinks and the other grows, as with pixels that are not square, each is resized in its
    own way and the shrinking one first: OpenCV takes means over areas only where neither axis grows.
    """
    if image.shape == size:
        return image
    shrinks, grows = np.less(size, image.shape), np.greater(size, image.shape)
    if shrinks.any() and grows.any():
        rows, cols = np.minimum(size, image.shape).tolist()
        return resize_image(resize_image(image, (rows, cols)), size)
    way = cv2.INTER_AREA if shrinks.any() else cv2.INTER_LINEAR
    resized: NDArray[np.float32] = cv2.resize(image, (size[1], size[0]), interpolation=way)
    return resized


def resize_labels(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize one label image: a pixel is tumour when half of it is, and then has its commonest label.

    Nearest-neighbour sampling would make ragged outlines and skip small enhancing spots by chance, while
    half-covered pixels keep the area of the tumour. A tumour that half-covers no pixel keeps the pixel it
    covers most, so a tumour slice never becomes an empty one.
    """
    labels, most, total = np.zeros(size, np.uint8), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for value in TUMOUR_LABELS:
        here = mask == value
        if here.any():
            share = resize_image(here.astype(np.float32), size)
            labels[share > most] = value
            np.maximum(most, share, out=most)
            total += share
    labels[total < min(0.5, float(total.max()))] = 0
    return labels


def pad_missing_slices(masks: NDArray[np.bool_], indices: Sequence[int]) -> NDArray[np.bool_]:
    """Put the slices [S, N, N] at their places in the volume, [last - first + 1, N, N].

    Slices that were dropped hold no tumour in the reference and get none from the network
    (`restore`): empty slices in their place make the volume what it is, not an approximation.
    """
    places = np.asarray(indices) - min(indices)
    volume = np.zeros((int(places.max()) + 1, *masks.shape[1:]), np.bool_)
    volume[places] = masks
    return volume
