"""A volume becomes normalised square slices, and what is predicted on them goes back onto its grid.

The box around the brain is the same for all slices of a case and is found in the images alone, so serving,
where no mask exists, cuts exactly as training did. A slice with hardly any brain is kept if the mask has
tumour there, so that the truth is whole, but it is marked: serving never looks at it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Preprocessing
from slicewise.core.errors import VolumeError
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import NUM_MODALITIES
from slicewise.imaging.geometry import Geometry, resize_image, resize_labels, restore_to_volume
from slicewise.imaging.intensity import compute_scaling, foreground
from slicewise.imaging.slice_selection import select_evenly
from slicewise.imaging.volume import Presence, Volume

__all__ = [
    "UNKNOWN_LABEL",
    "Geometry",
    "SlicedCase",
    "extract_slices",
    "restore_to_volume",
    "select_training_slices",
]

UNKNOWN_LABEL = -1
_MIN_SHARE = 0.5
_MAX_BOX = 8192


@dataclass(frozen=True)
class SlicedCase:
    """The slices of one case, S of them, N x N pixels each."""

    key: CaseKey
    images: NDArray[np.float16]
    """[S, 4, N, N] z-scores, 0 outside the brain and in empty slots."""
    masks: NDArray[np.uint8]
    """[S, N, N] labels 0..3; all 0 where there is no mask."""
    has_mask: bool
    labels: NDArray[np.int8]
    """[S]: 1 tumour, 0 none, -1 unknown (an unlabelled volume)."""
    indices: NDArray[np.int32]
    """[S]: the slice of the volume."""
    included: NDArray[np.bool_]
    """[S]: has enough brain for serving to look at; the others are here for their tumour alone."""
    train: NDArray[np.bool_]
    """[S]: chosen for training."""
    presence: Presence
    pixel_mm: float | None
    """Side of a pixel of the N x N slice; None where the files tell no size."""
    slice_mm: float
    geometry: Geometry


def extract_slices(volume: Volume, settings: Preprocessing) -> SlicedCase:
    """Cut, normalise and resize the slices of a volume or picture.

    Slices with less brain than `min_brain_fraction` of the largest one are dropped unless they hold tumour.

    Raises:
        VolumeError: there is nothing but background.
    """
    inside = foreground(volume.images, volume.presence)
    area = np.array([np.count_nonzero(brain) for brain in inside])
    if not inside.any():
        raise VolumeError(f"{volume.key}: no brain found, the image is one flat background; leave it out")
    tumour = np.zeros(len(area), np.bool_) if volume.mask is None else _any_label(volume.mask)
    included = area >= max(1, settings.min_brain_fraction * area.max())
    slice_indices = np.flatnonzero(included | tumour)
    geometry = _box(inside, volume, settings.crop_margin, slice_indices)
    masks = _cut_masks(volume, geometry, settings.image_size)
    labels = _slice_labels(volume, masks)
    return SlicedCase(
        key=volume.key,
        images=_cut_images(volume, inside, geometry, settings),
        masks=masks,
        has_mask=volume.mask is not None,
        labels=labels,
        indices=slice_indices.astype(np.int32),
        included=included[slice_indices],
        train=_select_train(included[slice_indices], labels, settings),
        presence=volume.presence,
        pixel_mm=_pixel_mm(volume, geometry, settings.image_size),
        slice_mm=volume.spacing[0],
        geometry=geometry,
    )


def _pixel_mm(volume: Volume, geometry: Geometry, image_size: int) -> float | None:
    if volume.orientation is None:
        return None
    return geometry.height * volume.spacing[1] / image_size


def _select_train(
    included: NDArray[np.bool_], labels: NDArray[np.int8], settings: Preprocessing
) -> NDArray[np.bool_]:
    """Choose among the included slices: the others would teach that little brain means tumour."""
    train = np.zeros(len(labels), np.bool_)
    train[included] = select_training_slices(
        labels[included], settings.healthy_ratio, settings.max_train_slices
    )
    return train


def select_training_slices(
    labels: NDArray[np.int8], healthy_ratio: float, max_train_slices: int
) -> NDArray[np.bool_]:
    """Mark the tumour slices and at most `healthy_ratio` as many healthy ones, evenly spaced.

    A case without tumour gives healthy slices up to `max_train_slices`. Where both kinds together exceed that
    limit, each keeps its share of it.
    """
    ill, healthy = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
    num_ill = len(ill)
    num_healthy = min(len(healthy), round(healthy_ratio * num_ill)) if num_ill else len(healthy)
    total = num_ill + num_healthy
    if total > max_train_slices:
        num_ill = -(-num_ill * max_train_slices // total)
        num_healthy = max_train_slices - num_ill
    chosen = np.zeros(len(labels), np.bool_)
    chosen[select_evenly(ill, num_ill)] = True
    chosen[select_evenly(healthy, num_healthy)] = True
    return chosen


def _box(
    inside: NDArray[np.bool_], volume: Volume, margin: float, slice_indices: NDArray[np.intp]
) -> Geometry:
    """Return the box that is square in mm and holds the brain of all kept slices, with a margin."""
    flat: NDArray[np.bool_] = np.asarray(inside[slice_indices].any(axis=0))
    rows, cols = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    _, row_mm, col_mm = volume.spacing
    side = max((rows[-1] - rows[0] + 1) * row_mm, (cols[-1] - cols[0] + 1) * col_mm) * (1 + 2 * margin)
    if side > _MAX_BOX * min(row_mm, col_mm):
        raise VolumeError(f"{volume.key}: {_too_large(volume)}")
    height, width = max(1, round(side / row_mm)), max(1, round(side / col_mm))
    return Geometry(
        shape=volume.shape,
        top=int(rows[0] + rows[-1] + 1 - height) // 2,
        left=int(cols[0] + cols[-1] + 1 - width) // 2,
        height=height,
        width=width,
        indices=tuple(slice_indices.tolist()),
    )


def _too_large(volume: Volume) -> str:
    """Say what to do about a box that is too large; a picture has no header that could be wrong."""
    fault = f"a square around the brain would have more than {_MAX_BOX} pixels a side"
    if volume.orientation is None:
        _, rows, cols = volume.shape
        return f"{fault}; the picture has {cols} x {rows}, scale it down"
    _, row_mm, col_mm = volume.spacing
    return f"{fault} at {row_mm:g} x {col_mm:g} mm per pixel; correct the voxel sizes in the file's header"


def _cut_images(
    volume: Volume, inside: NDArray[np.bool_], geometry: Geometry, settings: Preprocessing
) -> NDArray[np.float16]:
    """Normalise and resize slice by slice: a slice stays in the processor's cache, the volume would not."""
    side = settings.image_size
    scalings = compute_scaling(volume.images, inside, volume.presence, settings.clip_percentiles)
    images = np.zeros((len(geometry.indices), NUM_MODALITIES, side, side), np.float16)
    for position, index in enumerate(geometry.indices):
        brain = geometry.cut(inside[index])
        weights = _brain_weights(brain, side)
        for slot, scaling in enumerate(scalings):
            if scaling is not None:
                image = scaling.apply(geometry.cut(volume.images[slot, index]), brain)
                resized = resize_image(image, (side, side))
                # Six times as fast as NumPy's own multiplication and rounding to float16.
                images[position, slot] = cv2.multiply(resized, weights, dtype=cv2.CV_16F)
    return images


def _brain_weights(brain: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
    """Return what undoes the mixing of brain with the 0 outside at its edge, and 0 where most is outside.

    Without it every slice has a rim of wrong, brighter pixels: 0 is the brain's mean, not black.
    """
    share = resize_image(brain.astype(np.float32), (side, side))
    share[share < _MIN_SHARE] = np.inf
    weights: NDArray[np.float32] = np.reciprocal(share)
    return weights


def _cut_masks(volume: Volume, geometry: Geometry, side: int) -> NDArray[np.uint8]:
    masks = np.zeros((len(geometry.indices), side, side), np.uint8)
    if volume.mask is not None:
        for position, index in enumerate(geometry.indices):
            masks[position] = resize_labels(geometry.cut(volume.mask[index]), (side, side))
    return masks


def _slice_labels(volume: Volume, masks: NDArray[np.uint8]) -> NDArray[np.int8]:
    if volume.mask is not None:
        return _any_label(masks).astype(np.int8)
    return np.full(len(masks), UNKNOWN_LABEL if volume.label is None else volume.label, np.int8)


def _any_label(masks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.array([mask.any() for mask in masks], np.bool_)
