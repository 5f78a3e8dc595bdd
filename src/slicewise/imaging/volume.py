"""One case as arrays in the radiological view, read from NIfTI or given as a NumPy array.

Volumes are [slice, row, col] with slices from the feet to the head, row 0 anterior and column 0 the patient's
right, whatever the file's own axes are. Patient orientation follows NIfTI-1 (Cox et al. 2004).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import DataError, VolumeError
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import COLOURS, GREY, MODALITIES, LabelMap
from slicewise.imaging.io import nifti_fields
from slicewise.imaging.io.image2d import luminance
from slicewise.imaging.io.nifti import ImageFile, align, read_nifti
from slicewise.imaging.mask_values import decode_labels
from slicewise.imaging.orientation import Orientation

Intensities: TypeAlias = NDArray[Any]
Presence: TypeAlias = tuple[bool, ...]
"""Whether each channel holds an image."""
_ARRAY_KEY: Final = CaseKey("input", "array", "array")
_ARRAY_SHAPES: Final = "[row, col], [slice, row, col] or [channel, slice, row, col]"
_KEPT_TYPES: Final = (np.uint8, np.int16, np.uint16)


@dataclass(frozen=True)
class Volume:
    """One case: its images on one grid, with its mask or its label.

    Raises:
        VolumeError: the arrays do not fit together.
    """

    key: CaseKey
    images: Intensities
    """[channel, slice, row, col] raw intensities: uint8, int16 or uint16 as the files store them, else
    float32. An empty channel is all zero."""
    presence: Presence
    mask: NDArray[np.uint8] | None
    """[slice, row, col], labels: those of `domain.labels`, or numbers of classes."""
    label: int | None
    """For a picture without a mask: 1 tumour, 0 none."""
    spacing: tuple[float, float, float]
    """mm between voxel centres along (slice, row, col)."""
    orientation: Orientation | None
    """The voxel grid of the files; None for pictures."""
    remarks: tuple[str, ...] = ()
    """Notes on oddities of the files."""
    channels: tuple[str, ...] = MODALITIES
    """Names of the channels of `images`."""
    colour: float = 0.0
    """Of a picture: the share of the pixels of its file that are clearly not grey."""

    def __post_init__(self) -> None:
        number = len(self.channels)
        if self.images.ndim != 4 or len(self.images) != number or not self.images.size:
            raise VolumeError(
                f"{self.key}: images are {self.images.shape}, not ({number}, slices, rows, columns)"
            )
        if self.mask is not None and self.mask.shape != self.shape:
            raise VolumeError(f"{self.key}: mask is {self.mask.shape} and the images are {self.shape}")
        if not all(np.isfinite(length) and length > 0 for length in self.spacing):
            raise VolumeError(f"{self.key}: voxels of {self.spacing} mm; correct the file's header")
        if len(self.presence) != number or not any(self.presence):
            raise VolumeError(f"{self.key}: no modality holds an image; at least one must be given")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        _, slices, rows, cols = self.images.shape
        return slices, rows, cols

    def select(self, channels: Sequence[str]) -> "Volume":
        """Return the volume with these channels in this order; those that it lacks are empty.

        A grey picture fills red, green and blue, and of colours grey is the luminance.

        Raises:
            VolumeError: it has none of them.
        """
        if tuple(channels) == self.channels:
            return self
        if GREY in channels and (grey := self._in_grey()):
            return grey.select(channels)
        if {*COLOURS} & {*channels} and (colours := self._in_colour()):
            return colours.select(channels)
        images, presence = np.zeros((len(channels), *self.shape), self.images.dtype), [False] * len(channels)
        for name in set(channels) & set(self.channels):
            place, here = channels.index(name), self.channels.index(name)
            images[place], presence[place] = self.images[here], self.presence[here]
        if not any(presence):
            filled = [name for name, there in zip(self.channels, self.presence, strict=True) if there]
            raise VolumeError(
                f"{self.key}: its images are {', '.join(filled)}, and the recipe's channels "
                f"{', '.join(channels)}; set preprocessing.channels"
            )
        return replace(self, images=images, presence=tuple(presence), channels=tuple(channels))

    def _in_grey(self) -> "Volume | None":
        """Return a picture in colours as its luminance; None for any other volume."""
        if self.channels != COLOURS:
            return None
        grey = luminance(np.moveaxis(self.images, 0, -1))[None]
        images = (np.rint(grey) if self.images.dtype.kind in "iu" else grey).astype(self.images.dtype)
        return replace(self, images=images, presence=(True,), channels=(GREY,))

    def _in_colour(self) -> "Volume | None":
        """Return a grey picture with its values in each colour; None for any other volume."""
        if self.channels != (GREY,):
            return None
        images = np.repeat(self.images, len(COLOURS), axis=0)
        return replace(self, images=images, presence=(True,) * len(COLOURS), channels=COLOURS)


UNIT_SPACING = (1.0, 1.0, 1.0)
"""Spacing of files without a pixel size; `orientation` is None, and lengths are in pixels."""


def picture_volume(key: CaseKey, pixels: NDArray[Any], channel: str, label: int | None = None) -> Volume:
    """Return a picture as a volume of one slice.

    Grey [row, col] fills the channel, of a model of colours all of them; [row, col, 3] is red, green and
    blue.
    """
    if pixels.ndim > 2:
        images = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)[:, None])
        return Volume(key, images, (True,) * 3, None, label, UNIT_SPACING, None, channels=COLOURS)
    channel = GREY if channel in COLOURS else channel
    channels = MODALITIES if channel in MODALITIES else (channel,)
    presence = tuple(name == channel for name in channels)
    images = np.zeros((len(channels), 1, *pixels.shape), pixels.dtype)
    images[channels.index(channel), 0] = pixels
    return Volume(key, images, presence, None, label, UNIT_SPACING, None, channels=channels)


def read_nifti_case(
    key: CaseKey,
    modalities: Sequence[str],
    image_paths: Sequence[Path],
    mask_path: Path | None,
    label_map: LabelMap | None = None,
) -> Volume:
    """Read one case; `image_paths[i]` holds `modalities[i]`, absent ones of MODALITIES leave an empty slot.

    `label_map` holds the label of each value of the mask (`mask_values.decode_labels`).

    Raises:
        VolumeError: a file is damaged, or the files do not lie on one grid (`alignment`); names the file.
    """
    if not image_paths:
        raise VolumeError(f"{key}: no image file; at least one of {', '.join(MODALITIES)} is needed")
    volume, first = combine_images(key, modalities, map(read_nifti, image_paths))
    if mask_path is None:
        return volume
    file = align(first, read_nifti(mask_path))
    if file.remarks:
        raise VolumeError(f"{mask_path}: holds NaN or infinity, which are no labels; save it as integers")
    return replace(
        volume, mask=decode_labels(mask_path, np.ascontiguousarray(file.array), file.step, label_map)
    )


def combine_images(
    key: CaseKey, modalities: Sequence[str], files: Iterable[ImageFile]
) -> tuple[Volume, ImageFile]:
    """Return the images of one grid as a volume without a mask, and the first one.

    The files come one after the other, so that at most one is held twice.

    Raises:
        VolumeError: they do not lie on one grid, or no voxel differs from 0.
    """
    channels = MODALITIES if {*modalities} <= {*MODALITIES} else tuple(modalities)
    slots, rest = [channels.index(modality) for modality in modalities], iter(files)
    first = next(rest)
    images: Intensities = np.zeros((len(channels), *first.array.shape), first.array.dtype)
    images[slots[0]] = first.array
    first = replace(first, array=images[slots[0]])
    for slot, other in zip(slots[1:], rest, strict=True):
        file = align(first, other)
        first = replace(first, remarks=(*first.remarks, *file.remarks))
        if images.dtype != file.array.dtype:
            images = images.astype(np.float32, copy=False)
        images[slot] = file.array
    presence = tuple(any(part.any() for part in image) for image in images)
    if not any(presence):
        raise VolumeError(f"{first.path}: every voxel is 0; the file holds no image, export it again")
    volume = Volume(
        key, images, presence, None, None, first.spacing, first.orientation, first.remarks, channels
    )
    return volume, first


def volume_from_array(
    array: Any,
    channels: str | Sequence[str] | None,
    spacing: Sequence[float] | None,
    slot: str,
    known: Sequence[str],
) -> Volume:
    """Return an array as a volume; see `Pipeline.predict` for `array`, `channels` and `spacing`.

    By default a picture fills the channel `slot`, and as many channels as the model has are those `known`.

    Raises:
        DataError: names the argument, what was expected and what it is.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise DataError(f"the array has the shape {array.shape}; expected {_ARRAY_SHAPES}")
    if array.dtype.kind not in "uif":
        raise DataError(f"the array has the type {array.dtype}; expected integers or floating-point numbers")
    if count := array.size - np.count_nonzero(np.isfinite(array)):
        raise DataError(
            f"the array holds NaN or infinity in {count:,} places; replace them, by 0 for example"
        )
    picture = array.ndim == 2
    parts = array.reshape((1,) * (4 - array.ndim) + array.shape)
    default = (GREY if slot in COLOURS else slot,) if picture else known if array.ndim == 4 else ()
    known = (*known, GREY) if {*COLOURS} <= {*known} else known
    names = (channels,) if isinstance(channels, str) else tuple(channels or default)
    if len(names) != len(parts) or len(set(names)) < len(names) or not set(names) <= set(known):
        raise DataError(
            f"channels={channels!r} for an array of {len(parts)} channel(s); name a different one of "
            f"{', '.join(known)} for each"
        )
    images = parts.astype(array.dtype if array.dtype in _KEPT_TYPES else np.float32)
    presence = tuple(bool(image.any()) for image in images)
    if not any(presence):
        raise DataError("the array is 0 everywhere; it holds no image")
    orientation = None if spacing is None else array_orientation(parts.shape[1:], spacing)
    sizes = UNIT_SPACING if orientation is None else orientation.spacing()
    return Volume(_ARRAY_KEY, images, presence, None, None, sizes, orientation, channels=names)


def array_orientation(shape: tuple[int, ...], spacing: Sequence[float]) -> Orientation:
    """Return a grid [slice, row, col] of these voxel sizes whose origin is the first voxel.

    Raises:
        DataError: the sizes are not three positive numbers.
    """
    sizes = np.asarray(spacing, np.float64)
    if sizes.shape != (3,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise DataError(f"spacing={spacing!r}; expected three sizes in mm, along (slice, row, col)")
    slice_mm, row_mm, col_mm = sizes.tolist()
    affine = np.diag([-col_mm, -row_mm, slice_mm, 1.0])
    slices, rows, cols = shape
    header = nifti_fields.blank(348, np.dtype(np.uint8), (cols, rows, slices))
    header["sform_code"], header["quatern_d"] = 2, 1  # half a turn about the slices' axis
    header["pixdim"][1:4] = col_mm, row_mm, slice_mm
    for row, name in zip(affine[:3], ("srow_x", "srow_y", "srow_z"), strict=True):
        header[name] = row
    return Orientation(tuple(map(tuple, affine.tolist())), (cols, rows, slices), header.tobytes())
