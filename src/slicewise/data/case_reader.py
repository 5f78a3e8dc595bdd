"""Reads the files of a case into a Volume. Each file is opened once and checked as it is read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import PictureError, VolumeError
from slicewise.data.cases import CaseFiles
from slicewise.domain.labels import EDEMA, NUM_MODALITIES, modality_slot
from slicewise.imaging.io.image2d import open_picture, read_picture
from slicewise.imaging.mask_values import decode_tumour
from slicewise.imaging.volume import UNIT_SPACING, Volume, picture_volume, read_nifti_case


def read_case(case: CaseFiles) -> Volume:
    """Return the volume of a case.

    Raises:
        VolumeError: a volume or slice is damaged, or the files do not fit together.
        PictureError: a picture is damaged.
    """
    match case.kind:
        case "nifti":
            mask = case.masks[0] if case.masks else None
            return read_nifti_case(case.key, case.modalities, case.images, mask, case.labels)
        case "lgg":
            return _read_lgg(case)
        case "picture":
            picture = read_picture(case.images[0])
            volume = picture_volume(case.key, picture.pixels, case.modalities[0], case.label)
            return replace(volume, remarks=picture.notes)


def _read_lgg(case: CaseFiles) -> Volume:
    """Return the channels in their slots. One that repeats FLAIR is missing by convention and stays empty."""
    stack = _read_slices(case.images, masks=False)
    images = np.zeros((NUM_MODALITIES, *stack.shape[:3]), np.uint8)
    flair = stack[..., case.modalities.index("flair")]
    for channel, modality in enumerate(case.modalities):
        sequence = stack[..., channel]
        if modality == "flair" or not np.array_equal(sequence, flair):
            images[modality_slot(modality)] = sequence
    first, second, third, fourth = (bool(image.any()) for image in images)
    presence = (first, second, third, fourth)
    labels, remark = None, None
    if case.masks:
        masks = _read_slices(case.masks, masks=True)
        if masks.shape != stack.shape[:3]:
            raise VolumeError(
                f"{case.folder}: masks are {masks.shape} and slices are {stack.shape[:3]}; fetch it again"
            )
        tumour, remark = decode_tumour(case.folder, masks)
        labels = np.where(tumour, np.uint8(EDEMA), np.uint8(0))
    return Volume(case.key, images, presence, labels, None, UNIT_SPACING, None, (remark,) if remark else ())


def _read_slices(paths: tuple[Path, ...], *, masks: bool) -> NDArray[Any]:
    """Return RGB slices [slice, row, col, 3], or masks [slice, row, col] in the values that they store.

    Of a mask in colours, the brightest channel is taken.
    """
    arrays: list[NDArray[Any]] = []
    for path in paths:
        try:
            with open_picture(path, ("TIFF",)) as image:
                if not masks and image.mode != "RGB":
                    raise VolumeError(f"{path} has mode {image.mode}, not RGB; is it a slice of kaggle_3m?")
                if image.mode.startswith(("I", "F")) or image.mode == "L":
                    array: NDArray[Any] = np.asarray(image)
                else:
                    array = np.asarray(image.convert("RGB"), np.uint8)
                arrays.append(array.max(-1) if masks and array.ndim > 2 else array)
        except PictureError as error:
            raise VolumeError(f"{path} is unreadable: {error}") from error
    for path, array in zip(paths, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise VolumeError(
                f"{path} is {array.shape} and {paths[0]} is {arrays[0].shape}; fetch the case again"
            )
    return np.stack(arrays)
