"""A volume becomes normalised square slices, and predictions for them go back onto its grid.

The box around the brain is the same for all slices of a case and is found in the images alone, so serving,
where no mask exists, cuts exactly as training did. A slice with hardly any brain is kept if the mask has
tumour there, so that the reference is complete, but it is not `included`: no prediction is made for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Preprocessing
from slicewise.core.errors import VolumeError
from slicewise.domain.keys import CaseKey
from slicewise.imaging.foreground import foreground
from slicewise.imaging.intensity import compute_scaling
from slicewise.imaging.resize import multiply_to_half, resize_channels, resize_image
from slicewise.imaging.volume import Presence, Volume

UNKNOWN_LABEL = -1
_MIN_SHARE = 0.5
"""Pixels with a smaller share of brain are background."""
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
    """Position in the volume of each slice that was cut; of a picture in tiles the number of each tile."""
    tiles: tuple[int, int] = (1, 1)
    """(rows, columns) of the tiles that a picture is cut into; the box is the first one."""

    @property
    def is_tiled(self) -> bool:
        return self.tiles != (1, 1)

    def place(self, index: int) -> tuple[int, Self]:
        """Return the slice of the volume that one of `indices` stands for, and the box to cut from it."""
        if not self.is_tiled:
            return index, self
        row, col = divmod(index, self.tiles[1])
        return 0, replace(self, top=self.top + row * self.height, left=self.left + col * self.width)

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
        tiles = {"tiles": list(self.tiles)} if self.is_tiled else {}
        return {"shape": list(self.shape), "box": [self.top, self.left, self.height, self.width], **tiles}

    @classmethod
    def from_json(cls, value: dict[str, Any], indices: Sequence[int]) -> Self:
        slices, rows, cols = (int(size) for size in value["shape"])
        top, left, height, width = (int(number) for number in value["box"])
        down, across = (int(number) for number in value.get("tiles", (1, 1)))
        return cls((slices, rows, cols), top, left, height, width, tuple(indices), (down, across))

    def _overlap(self) -> tuple[slice, slice, slice, slice]:
        _, rows, cols = self.shape
        top, bottom = max(self.top, 0), min(self.top + self.height, rows)
        left, right = max(self.left, 0), min(self.left + self.width, cols)
        inner_rows = slice(top - self.top, bottom - self.top)
        return slice(top, bottom), slice(left, right), inner_rows, slice(left - self.left, right - self.left)


@dataclass(frozen=True)
class SlicedCase:
    """The slices of one case, S of them, N x N pixels each."""

    key: CaseKey
    images: NDArray[np.float16]
    """[S, C, N, N] z-scores of the C channels of the recipe, 0 outside the brain and in empty ones."""
    masks: NDArray[np.uint8]
    """[S, N, N] labels, 0 for the background; all 0 where there is no mask."""
    has_mask: bool
    labels: NDArray[np.int8]
    """[S]: 1 tumour, 0 none, -1 unknown (an unlabelled volume)."""
    indices: NDArray[np.int32]
    """[S]: position in the volume."""
    included: NDArray[np.bool_]
    """[S]: has enough brain for a prediction; the others are kept for their tumour alone."""
    train: NDArray[np.bool_]
    """[S]: chosen for training."""
    channels: tuple[str, ...]
    presence: Presence
    pixel_mm: float | None
    """Side of a pixel of the N x N slice; None if the files hold no size."""
    slice_mm: float
    geometry: Geometry


def extract_slices(volume: Volume, settings: Preprocessing) -> SlicedCase:
    """Cut, normalise and resize the slices of a volume or picture.

    Slices with less brain than `min_brain_fraction` of the largest one are dropped unless they hold tumour.

    Raises:
        VolumeError: the image is nothing but background, or has none of the channels.
    """
    volume = volume.select(settings.channels)
    if settings.crop == "none" and settings.intensity != "zscore_foreground":
        inside = np.ones(volume.shape, np.bool_)  # pictures as a whole
    else:
        inside = foreground(volume.images, volume.presence)
    area = np.array([np.count_nonzero(brain) for brain in inside])
    if not inside.any():
        raise VolumeError(f"{volume.key}: no brain found, the image is one flat background; leave it out")
    has_brain = area >= max(1, settings.min_brain_fraction * area.max())
    slice_indices = np.flatnonzero(has_brain if volume.mask is None else has_brain | _any_label(volume.mask))
    size = settings.image_size
    geometry = _find_box(volume, inside, slice_indices, settings)
    included = np.ones(len(geometry.indices), np.bool_) if geometry.is_tiled else has_brain[slice_indices]
    masks = np.zeros((len(geometry.indices), size, size), np.uint8)
    if volume.mask is None:
        labels = np.full(len(masks), UNKNOWN_LABEL if volume.label is None else volume.label, np.int8)
    else:
        for position, (index, box) in enumerate(map(geometry.place, geometry.indices)):
            masks[position] = resize_labels(box.cut(volume.mask[index]), (size, size))
        labels = _any_label(masks).astype(np.int8)
    # Not among the others: they would teach that little brain means tumour.
    train = np.zeros(len(masks), np.bool_)
    train[included] = select_training_slices(
        labels[included], settings.healthy_ratio, settings.max_train_slices
    )
    return SlicedCase(
        key=volume.key,
        images=_cut_images(volume, inside, geometry, settings),
        masks=masks,
        has_mask=volume.mask is not None,
        labels=labels,
        indices=np.array(geometry.indices, np.int32),
        included=included,
        train=train,
        channels=volume.channels,
        presence=volume.presence,
        pixel_mm=None if volume.orientation is None else geometry.height * volume.spacing[1] / size,
        slice_mm=volume.spacing[0],
        geometry=geometry,
    )


def _find_box(
    volume: Volume, inside: NDArray[np.bool_], slice_indices: NDArray[np.intp], settings: Preprocessing
) -> Geometry:
    """Return the box that is cut from each of these slices, or the tiles of a picture."""
    if settings.fit == "tile":
        return _find_tiles(volume, settings.image_size)
    cropped = settings.crop == "brain"
    within, margin = (inside, settings.crop_margin) if cropped else (np.ones_like(inside), 0.0)
    box = square_box(within, volume, margin, slice_indices)
    return box.padded_to(settings.image_size) if settings.fit == "pad" else box


def _find_tiles(volume: Volume, size: int) -> Geometry:
    """Return tiles of `size` x `size` pixels that cover a picture; the outer ones reach over its edge."""
    slices, rows, cols = volume.shape
    if slices > 1:
        raise VolumeError(
            f"{volume.key}: preprocessing.fit=tile is for pictures, and this is a volume of {slices} slices; "
            "set it to resize or pad"
        )
    down, across = -(-rows // size), -(-cols // size)
    top, left = (rows - down * size) // 2, (cols - across * size) // 2
    return Geometry(volume.shape, top, left, size, size, tuple(range(down * across)), (down, across))


def _cut_images(
    volume: Volume, inside: NDArray[np.bool_], geometry: Geometry, settings: Preprocessing
) -> NDArray[np.float16]:
    """Return the normalised slices [S, C, N, N], one at a time: a slice fits the processor's cache.

    Dividing by the share of brain in each pixel undoes its mixing with the 0 outside: without it every slice
    has a rim of wrong, brighter pixels, since 0 is the brain's mean, not black.
    """
    side, clip = settings.image_size, settings.clip_percentiles
    scalings = compute_scaling(volume.images, inside, volume.presence, clip, settings.intensity)
    images = np.zeros((len(geometry.indices), len(scalings), side, side), np.float16)
    filled = [(slot, scaling) for slot, scaling in enumerate(scalings) if scaling is not None]
    # Means over areas are taken of four channels at once, each as if alone; linear resizing would differ.
    together = 4 if min(geometry.height, geometry.width) >= side else 1
    groups = [filled[start : start + together] for start in range(0, len(filled), together)]
    for position, (index, box) in enumerate(map(geometry.place, geometry.indices)):
        brain = box.cut(inside[index]).astype(np.float32)
        share = resize_image(brain, (side, side))
        weights = np.reciprocal(np.where(share < _MIN_SHARE, np.float32(np.inf), share))
        for group in groups:
            cut = [scaling.apply(box.cut(volume.images[slot, index]), brain) for slot, scaling in group]
            for (slot, _), image in zip(group, resize_channels(cut, (side, side)), strict=True):
                images[position, slot] = multiply_to_half(image, weights)
    return images


def _any_label(masks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.array([mask.any() for mask in masks], np.bool_)


def select_training_slices(
    labels: NDArray[np.int8], healthy_ratio: float, max_train_slices: int
) -> NDArray[np.bool_]:
    """Return a mask [S] of the tumour slices and at most `healthy_ratio` as many healthy ones, evenly spaced.

    A case without tumour gives healthy slices up to `max_train_slices`. Where both kinds together exceed that
    limit, each keeps its share of it.
    """
    tumour, healthy = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
    num_tumour = len(tumour)
    num_healthy = min(len(healthy), round(healthy_ratio * num_tumour)) if num_tumour else len(healthy)
    total = num_tumour + num_healthy
    if total > max_train_slices:
        num_tumour = -(-num_tumour * max_train_slices // total)
        num_healthy = max_train_slices - num_tumour
    chosen = np.zeros(len(labels), np.bool_)
    chosen[select_evenly(tumour, num_tumour)] = True
    chosen[select_evenly(healthy, num_healthy)] = True
    return chosen


def select_evenly(positions: NDArray[Any], count: int, turn: int = 0) -> NDArray[Any]:
    """Return `count` of the positions, each from the middle of one of `count` equal stretches.

    `turn` shifts the choice; after ceil(positions / count) turns each position was chosen.
    """
    size, at_least_one = len(positions), max(count, 1)
    middles = (np.arange(count) * 2 + 1) * size // (2 * at_least_one)
    num_turns = max(-(-size // at_least_one), 1)
    return positions[(middles + turn % num_turns) % max(size, 1)]


def square_box(
    inside: NDArray[np.bool_], volume: Volume, margin: float, slice_indices: NDArray[np.intp]
) -> Geometry:
    """Return the box that is square in mm and holds the brain [slice, row, col] of these slices.

    `margin` is that at each side, as a share of the brain's extent.

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
    """Return masks (bool or uint8) or probabilities [S, N, N] on the volume's grid, 0 in dropped slices."""
    result = np.zeros(geometry.shape, masks.dtype)
    size = (geometry.height, geometry.width)
    for source, (index, place) in zip(masks, map(geometry.place, geometry.indices), strict=True):
        if not source.any():
            continue
        if masks.dtype.kind == "f":
            box: NDArray[Any] = resize_image(source.astype(np.float32), size)
        else:
            box = resize_labels(source.astype(np.uint8), size)
        place.paste(box.astype(masks.dtype), result[index])
    return result


def resize_labels(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize one label image: a pixel is tumour if half of it is, and then takes its commonest label.

    This keeps the tumour's area, where nearest-neighbour sampling skips small enhancing spots by chance. A
    tumour that half-covers no pixel keeps the pixel it covers most, so a tumour slice never becomes empty.
    """
    labels, largest, total = np.zeros(size, np.uint8), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for value in range(1, int(mask.max()) + 1):
        if (mask == value).any():
            share = resize_image((mask == value).astype(np.float32), size)
            labels[share > largest] = value
            np.maximum(largest, share, out=largest)
            total += share
    labels[total < min(0.5, float(total.max()))] = 0
    return labels


def pad_missing_slices(masks: NDArray[np.bool_], indices: Sequence[int]) -> NDArray[np.bool_]:
    """Return masks [S, N, N] at their places in the volume, [last - first + 1, N, N].

    Dropped slices hold no tumour in the reference and none in the prediction: empty ones are exact.
    """
    places = np.asarray(indices) - min(indices)
    volume = np.zeros((int(places.max()) + 1, *masks.shape[1:]), np.bool_)
    volume[places] = masks
    return volume
