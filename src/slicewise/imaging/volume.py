"""One case as arrays in the view a radiologist expects, read from NIfTI and written back to it.

Volumes are [slice, row, col] with slices from the feet to the head, row 0 anterior and column 0 the patient's
right, whatever the file's own axes are. Patient orientation follows NIfTI-1 (Cox et al. 2004).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import VolumeError
from slicewise.domain.keys import CaseKey, safe_name
from slicewise.domain.labels import MODALITIES, NUM_MODALITIES, LabelMap, Modality, modality_slot
from slicewise.imaging.io.nifti import NiftiFile, read_aligned, read_nifti, write_nifti
from slicewise.imaging.mask_values import decode_labels
from slicewise.imaging.orientation import Orientation

Intensities: TypeAlias = NDArray[Any]
VolumeOrientation = Orientation
Presence: TypeAlias = tuple[bool, bool, bool, bool]


@dataclass(frozen=True)
class Volume:
    """One case: up to four modalities on one grid, with its mask or its label.

    Raises:
        VolumeError: the arrays do not fit together.
    """

    key: CaseKey
    images: Intensities
    """[4, slice, row, col] raw intensities: uint8, int16 or uint16 as the files store them, else float32.
    An empty slot is all zero."""
    presence: Presence
    mask: NDArray[np.uint8] | None
    """[slice, row, col], labels 0..3 of `core.labels`."""
    label: int | None
    """Of a picture without a mask: 1 tumour, 0 none."""
    spacing: tuple[float, float, float]
    """mm between voxel centres along (slice, row, col)."""
    orientation: VolumeOrientation | None
    """Where the voxels lie in the files; None for pictures."""
    remarks: tuple[str, ...] = ()
    """What reading the files took that people should know of."""

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[0] != NUM_MODALITIES or not self.images.size:
            raise VolumeError(f"{self.key}: images are {self.images.shape}, not (4, slices, rows, columns)")
        if self.mask is not None and self.mask.shape != self.shape:
            raise VolumeError(f"{self.key}: mask is {self.mask.shape} and the images are {self.shape}")
        if not all(np.isfinite(length) and length > 0 for length in self.spacing):
            raise VolumeError(f"{self.key}: voxels of {self.spacing} mm; correct the file's header")
        if not any(self.presence):
            raise VolumeError(f"{self.key}: no modality holds an image; at least one must be given")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        _, slices, rows, cols = self.images.shape
        return slices, rows, cols


UNIT_SPACING = (1.0, 1.0, 1.0)
"""Of files that tell no size of their pixels; `orientation` is None, and lengths count pixels."""


def picture_volume(
    key: CaseKey, pixels: NDArray[Any], modality: Modality, label: int | None = None
) -> Volume:
    """Return a picture [row, col] as a volume of one slice that fills one modality slot."""
    slot = modality_slot(modality)
    images = np.zeros((NUM_MODALITIES, 1, *pixels.shape), pixels.dtype)
    images[slot, 0] = pixels
    first, second, third, fourth = (place == slot for place in range(NUM_MODALITIES))
    return Volume(key, images, (first, second, third, fourth), None, label, UNIT_SPACING, None)


def read_nifti_case(
    key: CaseKey,
    modalities: Sequence[Modality],
    image_paths: Sequence[Path],
    mask_path: Path | None,
    label_map: LabelMap | None = None,
) -> Volume:
    """Read one case; `image_paths[i]` holds `modalities[i]`, absent modalities leave an empty slot.

    `label_map` says what the values of the mask mean (`mask_values.labels_of`).

    Raises:
        VolumeError: a file is damaged, or the files do not lie on one grid (see `grid`); names the file.
    """
    if not image_paths:
        raise VolumeError(f"{key}: no image file; at least one of {', '.join(MODALITIES)} is needed")
    images, presence, first = _read_images(modalities, image_paths)
    return Volume(
        key=key,
        images=images,
        presence=presence,
        mask=None if mask_path is None else _read_mask(mask_path, first, label_map),
        label=None,
        spacing=first.spacing,
        orientation=first.orientation,
        remarks=first.remarks,
    )


def read_volume(paths: Mapping[Modality, Path]) -> Volume:
    """Read the modalities of one examination for prediction: no mask, no known patient.

    Raises:
        VolumeError: as `read_nifti_case`.
    """
    first = next(iter(paths.values()), Path("unnamed"))
    name = safe_name(first.name.removesuffix(".gz").removesuffix(".nii"))
    return read_nifti_case(CaseKey("upload", name, name), tuple(paths), tuple(paths.values()), None)


def save_mask_nifti(path: Path, mask: NDArray[np.uint8], volume: Volume) -> None:
    """Write a mask [slice, row, col] on the grid and with the geometry of the file `volume` was read from.

    Enhancing tumour is written as 3, as BraTS does since 2023.

    Raises:
        VolumeError: the mask has another shape, or the volume was not read from NIfTI.
    """
    if volume.orientation is None:
        raise VolumeError(
            f"{volume.key} is a picture, not a NIfTI volume; save its mask as PNG instead of {path}"
        )
    if mask.shape != volume.shape:
        raise VolumeError(f"{path}: the mask is {mask.shape} and {volume.key} is {volume.shape}")
    write_nifti(path, mask.astype(np.uint8, copy=False), volume.orientation)


def _read_images(
    modalities: Sequence[Modality], paths: Sequence[Path]
) -> tuple[Intensities, Presence, NiftiFile]:
    """Read one file after the other into its slot, so that a single one is ever held twice."""
    images: Intensities | None = None
    first: NiftiFile | None = None
    for modality, path in zip(modalities, paths, strict=True):
        slot = modality_slot(modality)
        if images is None or first is None:
            file = read_nifti(path)
            images = np.zeros((NUM_MODALITIES, *file.array.shape), file.array.dtype)
            first = replace(file, array=images[slot])
        else:
            file = read_aligned(first, path)
            first = replace(first, remarks=(*first.remarks, *file.remarks))
        array = file.array
        if images.dtype != array.dtype:
            images = images.astype(np.float32, copy=False)
        images[slot] = array
    assert images is not None
    assert first is not None
    presence = tuple(any(part.any() for part in image) for image in images)
    if not any(presence):
        raise VolumeError(f"{first.path}: every voxel is 0; the file holds no image, export it again")
    return images, cast(Presence, presence), first


def _read_mask(path: Path, image: NiftiFile, label_map: LabelMap | None) -> NDArray[np.uint8]:
    """Read the labels 0 to 3 of a mask on the grid of `image`."""
    file = read_aligned(image, path)
    if file.remarks:
        raise VolumeError(f"{path}: holds NaN or infinity, which are no labels; save the mask as integers")
    return decode_labels(path, np.ascontiguousarray(file.array), file.step, label_map)
