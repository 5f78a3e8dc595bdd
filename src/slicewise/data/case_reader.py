"""From the files of a case to its Volume. Each file is opened once, here, and checked as it is read."""

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
from slicewise.imaging.volume import UNIT_SPACING, Presence, Volume, picture_volume, read_nifti_case


def read_case(case: CaseFiles) -> Volume:
    """Read the files of a case.

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
    """Channels to slots. One that repeats FLAIR throughout stands for a missing sequence and stays empty."""
    stack = np.stack(_same_shape(case.images, [_read_tiff(path, "RGB") for path in case.images]))
    images = np.zeros((NUM_MODALITIES, *stack.shape[:3]), np.uint8)
    flair = stack[..., case.modalities.index("flair")]
    filled = set()
    for channel, modality in enumerate(case.modalities):
        sequence = stack[..., channel]
        if sequence.any() and (modality == "flair" or not np.array_equal(sequence, flair)):
            slot = modality_slot(modality)
            images[slot] = sequence
            filled.add(slot)
    labels, remarks = _read_lgg_masks(case, stack.shape[:3]) if case.masks else (None, ())
    return Volume(case.key, images, _presence(filled), labels, None, UNIT_SPACING, None, remarks)


def _read_lgg_masks(case: CaseFiles, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    masks = np.stack(_same_shape(case.masks, [_read_mask(path) for path in case.masks]))
    if masks.shape != shape:
        raise VolumeError(f"{case.folder}: masks are {masks.shape} and slices are {shape}; fetch it again")
    tumour, remark = decode_tumour(case.folder, masks)
    return np.where(tumour, np.uint8(EDEMA), np.uint8(0)), () if remark is None else (remark,)


def _read_mask(path: Path) -> NDArray[Any]:
    """Read one mask [row, col] in the values it was saved with; of colours, the brightest channel."""
    try:
        with open_picture(path, ("TIFF",)) as image:
            if image.mode.startswith(("I", "F")) or image.mode == "L":
                return np.asarray(image)
            brightest: NDArray[np.uint8] = np.asarray(image.convert("RGB"), np.uint8).max(-1)
            return brightest
    except PictureError as error:
        raise VolumeError(f"{path} is unreadable: {error}") from error


def _read_tiff(path: Path, mode: str) -> NDArray[np.uint8]:
    try:
        with open_picture(path, ("TIFF",)) as image:
            if image.mode != mode:
                raise VolumeError(f"{path} has mode {image.mode}, not {mode}; is it a slice of kaggle_3m?")
            return np.asarray(image, np.uint8)
    except PictureError as error:
        raise VolumeError(f"{path} is unreadable: {error}") from error


def _same_shape(paths: tuple[Path, ...], arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    for path, array in zip(paths, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise VolumeError(
                f"{path} is {array.shape} and {paths[0]} is {arrays[0].shape}; fetch the case again"
            )
    return arrays


def _presence(filled: set[int]) -> Presence:
    first, second, third, fourth = (slot in filled for slot in range(NUM_MODALITIES))
    return first, second, third, fourth
