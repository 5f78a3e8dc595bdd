"""A volume becomes normalised square slices.

The box around the brain is the same for all slices of a case and is found in the images alone, so serving,
where no mask exists, cuts exactly as training did. A slice with hardly any brain is kept if the mask has
tumour there, so that the reference is complete, but it is not `included`: no prediction is made for it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Preprocessing
from slicewise.core.errors import VolumeError
from slicewise.domain.keys import CaseKey
from slicewise.imaging.foreground import foreground
from slicewise.imaging.geometry import Geometry, resize_image, resize_labels, square_box
from slicewise.imaging.intensity import compute_scaling
from slicewise.imaging.slice_selection import select_training_slices
from slicewise.imaging.volume import Presence, Volume

UNKNOWN_LABEL = -1
_MIN_SHARE = 0.5
"""Pixels with a smaller share of brain are background."""


@dataclass(frozen=True)
class SlicedCase:
    """The slices of one case, S of them, N x N pixels each."""

    key: CaseKey
    images: NDArray[np.float16]
    """[S, C, N, N] z-scores of the C channels of the recipe, 0 outside the brain and in empty ones."""
    masks: NDArray[np.uint8]
    """[S, N, N] labels 0..3; all 0 where there is no mask."""
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
    inside = _find_inside(volume, settings)
    area = np.array([np.count_nonzero(brain) for brain in inside])
    if not inside.any():
        raise VolumeError(f"{volume.key}: no brain found, the image is one flat background; leave it out")
    has_brain = area >= max(1, settings.min_brain_fraction * area.max())
    slice_indices = np.flatnonzero(has_brain if volume.mask is None else has_brain | _any_label(volume.mask))
    included = has_brain[slice_indices]
    size = settings.image_size
    geometry = _find_box(volume, inside, slice_indices, settings)
    masks = np.zeros((len(slice_indices), size, size), np.uint8)
    if volume.mask is None:
        labels = np.full(len(masks), UNKNOWN_LABEL if volume.label is None else volume.label, np.int8)
    else:
        for position, index in enumerate(slice_indices):
            masks[position] = resize_labels(geometry.cut(volume.mask[index]), (size, size))
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
        indices=slice_indices.astype(np.int32),
        included=included,
        train=train,
        channels=volume.channels,
        presence=volume.presence,
        pixel_mm=None if volume.orientation is None else geometry.height * volume.spacing[1] / size,
        slice_mm=volume.spacing[0],
        geometry=geometry,
    )


def _find_inside(volume: Volume, settings: Preprocessing) -> NDArray[np.bool_]:
    """Return where images are not 0 [slice, row, col]: in the foreground, or everywhere in whole pictures."""
    if settings.crop == "none" and settings.intensity != "zscore_foreground":
        return np.ones(volume.shape, np.bool_)
    return foreground(volume.images, volume.presence)


def _find_box(
    volume: Volume, inside: NDArray[np.bool_], slice_indices: NDArray[np.intp], settings: Preprocessing
) -> Geometry:
    """Return the box that is cut from each of these slices."""
    whole, margin = (
        (inside, settings.crop_margin) if settings.crop == "brain" else (np.ones_like(inside), 0.0)
    )
    box = square_box(whole, volume, margin, slice_indices)
    return box.padded_to(settings.image_size) if settings.fit == "pad" else box


def _cut_images(
    volume: Volume, inside: NDArray[np.bool_], geometry: Geometry, settings: Preprocessing
) -> NDArray[np.float16]:
    """Return the normalised slices [S, C, N, N], one at a time: a slice fits the processor's cache.

    Dividing by the share of brain in each pixel undoes its mixing with the 0 outside: without it every slice
    has a rim of wrong, brighter pixels, since 0 is the brain's mean, not black.
    """
    size = (settings.image_size, settings.image_size)
    scalings = compute_scaling(
        volume.images, inside, volume.presence, settings.clip_percentiles, settings.intensity
    )
    images = np.zeros((len(geometry.indices), len(scalings), *size), np.float16)
    for position, index in enumerate(geometry.indices):
        brain = geometry.cut(inside[index])
        share = resize_image(brain.astype(np.float32), size)
        share[share < _MIN_SHARE] = np.inf
        weights = np.reciprocal(share)
        for slot, scaling in enumerate(scalings):
            if scaling is not None:
                image = scaling.apply(geometry.cut(volume.images[slot, index]), brain)
                # Six times as fast as NumPy's own multiplication and rounding to float16.
                images[position, slot] = cv2.multiply(resize_image(image, size), weights, dtype=cv2.CV_16F)
    return images


def _any_label(masks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.array([mask.any() for mask in masks], np.bool_)
