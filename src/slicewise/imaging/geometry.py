"""The crop box of a case, resizing of slices, and their way back onto the volume's grid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import VolumeError
from slicewise.domain.labels import TUMOUR_LABELS
from slicewise.imaging.volume import Volume

_MAX_BOX = 8192


@dataclass(frozen=True)
class Geometry:
    """Where slices are cut from a volume. The box may reach over the volume's edge; outside it is 0."""

    shape: tuple[int, int, int]
    """(slices, rows, columns) of the volume."""
    top: int
    left: int
    height: int
    width: int
    indices: tuple[int, ...]
    """Position in the volume of each slice that was cut."""

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

    def padded_to(self, size: int) -> Self:
        """Return the box enlarged to `size` pixels around its middle; a larger one stays as it is."""
        if max(self.height, self.width) > size:
            return self
        top, left = self.top - (size - self.height) // 2, self.left - (size - self.width) // 2
        return replace(self, top=top, left=left, height=size, width=size)

    def to_json(self) -> dict[str, Any]:
        """Return plain values without `indices`, which the store keeps beside this."""
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


def square_box(
    inside: NDArray[np.bool_], volume: Volume, margin: float, slice_indices: NDArray[np.intp]
) -> Geometry:
    """Return the box that is square in mm and holds the brain of these slices, with a margin.

    Args:
        inside: mask of the brain [slice, row, col].
        volume: the case.
        margin: at each side, as a share of the brain's extent.
        slice_indices: the slices to cut.

    Raises:
        VolumeError: the box has too many pixels, mostly by wrong voxel sizes.
    """
    flat: NDArray[np.bool_] = np.asarray(inside[slice_indices].any(axis=0))
    rows, cols = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    _, row_mm, col_mm = volume.spacing
    side = max((rows[-1] - rows[0] + 1) * row_mm, (cols[-1] - cols[0] + 1) * col_mm) * (1 + 2 * margin)
    if side > _MAX_BOX * min(row_mm, col_mm):
        advice = f" at {row_mm:g} x {col_mm:g} mm per pixel; correct the voxel sizes in the file's header"
        if volume.orientation is None:
            advice = f"; the picture has {volume.shape[2]} x {volume.shape[1]}, scale it down"
        raise VolumeError(
            f"{volume.key}: a square around the brain would have more than {_MAX_BOX} pixels a side{advice}"
        )
    height, width = max(1, round(side / row_mm)), max(1, round(side / col_mm))
    return Geometry(
        shape=volume.shape,
        top=int(rows[0] + rows[-1] + 1 - height) // 2,
        left=int(cols[0] + cols[-1] + 1 - width) // 2,
        height=height,
        width=width,
        indices=tuple(slice_indices.tolist()),
    )


def restore_to_volume(masks: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """Return masks (bool or uint8 labels) or probabilities (float) [S, N, N] on the volume's grid.

    The result is [slices, rows, columns] of the same type; slices that were dropped are 0.
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
    """Resize one image to (rows, columns): down by the mean over areas against aliasing, up linearly.

    Where one axis shrinks and the other grows, as with pixels that are not square, the shrinking one is
    resized first: OpenCV takes means over areas only where neither axis grows.
    """
    if image.shape == size:
        return image
    shrinks, grows = np.less(size, image.shape), np.greater(size, image.shape)
    if shrinks.any() and grows.any():
        rows, cols = np.minimum(size, image.shape).tolist()
        return resize_image(resize_image(image, (rows, cols)), size)
    method = cv2.INTER_AREA if shrinks.any() else cv2.INTER_LINEAR
    resized: NDArray[np.float32] = cv2.resize(image, (size[1], size[0]), interpolation=method)
    return resized


def resize_labels(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize one label image: a pixel is tumour if half of it is, and then takes its commonest label.

    This keeps the tumour's area, where nearest-neighbour sampling skips small enhancing spots by chance. A
    tumour that half-covers no pixel keeps the pixel it covers most, so a tumour slice never becomes empty.
    """
    labels, largest, total = np.zeros(size, np.uint8), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for value in TUMOUR_LABELS:
        if (mask == value).any():
            share = resize_image((mask == value).astype(np.float32), size)
            labels[share > largest] = value
            np.maximum(largest, share, out=largest)
            total += share
    labels[total < min(0.5, float(total.max()))] = 0
    return labels


def pad_missing_slices(masks: NDArray[np.bool_], indices: Sequence[int]) -> NDArray[np.bool_]:
    """Return masks [S, N, N] at their places in the volume, [last - first + 1, N, N].

    Slices that were dropped hold no tumour in the reference and none in the prediction, so empty slices in
    their place are exact.
    """
    places = np.asarray(indices) - min(indices)
    volume = np.zeros((int(places.max()) + 1, *masks.shape[1:]), np.bool_)
    volume[places] = masks
    return volume
