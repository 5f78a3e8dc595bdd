"""Reads and checks the slices of a case of kaggle_3m. Each file is opened once and checked as it is read."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import PictureError, VolumeError
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.domain.labels import EDEMA, NUM_MODALITIES, modality_slot
from slicewise.imaging.io.image2d import open_picture
from slicewise.imaging.mask_values import decode_tumour
from slicewise.imaging.volume import UNIT_SPACING, Volume


def check_slices(case: CaseFiles) -> list[Problem]:
    """Return the files that cannot be read, and those of another size than the first."""
    problems: list[Problem] = []
    sizes: dict[Path, tuple[int, int]] = {}
    for path in case.files:
        try:
            with open_picture(path, ("TIFF",)) as image:
                sizes[path] = image.size
        except PictureError as error:
            problems.append(Problem(path, f"unreadable ({str(error).removeprefix(f'{path} ')})"))
    first = next(iter(sizes.values()), None)
    problems += [
        Problem(path, f"{size[0]} x {size[1]} pixels, unlike the first slice")
        for path, size in sizes.items()
        if size != first
    ]
    return problems


def read_slices(case: CaseFiles) -> Volume:
    """Return the channels in their slots. One that repeats FLAIR is missing by convention and stays empty."""
    stack = _stack(case.images, masks=False)
    images = np.zeros((NUM_MODALITIES, *stack.shape[:3]), np.uint8)
    flair = stack[..., case.modalities.index("flair")]
    for channel, modality in enumerate(case.modalities):
        sequence = stack[..., channel]
        if modality == "flair" or not np.array_equal(sequence, flair):
            images[modality_slot(modality)] = sequence
    presence = tuple(bool(image.any()) for image in images)
    labels, remark = None, None
    if case.masks:
        masks = _stack(case.masks, masks=True)
        if masks.shape != stack.shape[:3]:
            raise VolumeError(
                f"{case.folder}: masks are {masks.shape} and slices are {stack.shape[:3]}; fetch it again"
            )
        tumour, remark = decode_tumour(case.folder, masks)
        labels = np.where(tumour, np.uint8(EDEMA), np.uint8(0))
    return Volume(case.key, images, presence, labels, None, UNIT_SPACING, None, (remark,) if remark else ())


def _stack(paths: tuple[Path, ...], *, masks: bool) -> NDArray[Any]:
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
