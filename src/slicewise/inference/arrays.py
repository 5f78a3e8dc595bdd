"""A NumPy array as a `Volume`: modalities by name, voxel sizes in mm, and what is wrong with it."""

from collections.abc import Sequence
from typing import Any, Final, cast

import nibabel as nib
import numpy as np

from slicewise.core.errors import DataError
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES, NUM_MODALITIES, Modality, modality_slot
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.volume import UNIT_SPACING, Presence, Volume

_KEY: Final = CaseKey("input", "array", "array")
_SHAPES: Final = "[row, col], [slice, row, col] or [channel, slice, row, col]"
_KEPT_TYPES: Final = (np.uint8, np.int16, np.uint16)


def volume_from_array(
    array: Any,
    channels: Modality | Sequence[Modality] | None,
    spacing: Sequence[float] | None,
    slot: Modality,
) -> Volume:
    """Return an array as a volume; a picture is a volume of one slice.

    Args:
        array: [row, col], [slice, row, col] or [channel, slice, row, col] of numbers, without NaN.
        channels: the modality of each channel; by default `slot` for a picture.
        spacing: mm along (slice, row, col), or None where they are unknown.
        slot: the modality of a picture without `channels`.

    Raises:
        DataError: names the argument, what was expected and what it is.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise DataError(f"the array has the shape {array.shape}; expected {_SHAPES}")
    if array.dtype.kind not in "uif":
        raise DataError(f"the array has the type {array.dtype}; expected integers or floating-point numbers")
    if not np.isfinite(array).all():
        count = array.size - np.count_nonzero(np.isfinite(array))
        raise DataError(
            f"the array holds NaN or infinity in {count:,} places; replace them, by 0 for example"
        )
    picture = array.ndim == 2
    parts = array.reshape(array.shape if array.ndim == 4 else (1, *([1] if picture else []), *array.shape))
    names = (channels,) if isinstance(channels, str) else channels or ((slot,) if picture else ())
    if len(names) != len(parts) or len(set(names)) < len(names) or not set(names) <= set(MODALITIES):
        raise DataError(
            f"channels={channels!r} for an array of {len(parts)} channel(s); name a different one of "
            f"{', '.join(MODALITIES)} for each"
        )
    images = np.zeros(
        (NUM_MODALITIES, *parts.shape[1:]), array.dtype if array.dtype in _KEPT_TYPES else np.float32
    )
    for name, part in zip(names, parts, strict=True):
        images[modality_slot(name)] = part
    presence = cast(Presence, tuple(bool(image.any()) for image in images))
    if not any(presence):
        raise DataError("the array is 0 everywhere; it holds no image")
    orientation = None if spacing is None else _orientation(parts.shape[1:], spacing)
    sizes = UNIT_SPACING if orientation is None else orientation.spacing()
    return Volume(_KEY, images, presence, None, None, sizes, orientation)


def _orientation(shape: tuple[int, ...], spacing: Sequence[float]) -> Orientation:
    """Return a grid of these voxel sizes whose origin is the first voxel."""
    sizes = np.asarray(spacing, np.float64)
    if sizes.shape != (3,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise DataError(f"spacing={spacing!r}; expected three sizes in mm, along (slice, row, col)")
    slice_mm, row_mm, col_mm = sizes.tolist()
    affine = np.diag([-col_mm, -row_mm, slice_mm, 1.0])
    slices, rows, cols = shape
    header = nib.Nifti1Image(np.broadcast_to(np.uint8(0), (cols, rows, slices)), affine).header.binaryblock
    return Orientation(tuple(map(tuple, affine.tolist())), (cols, rows, slices), header)
