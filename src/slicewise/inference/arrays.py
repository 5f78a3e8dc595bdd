"""A NumPy array as a `Volume`: modalities by name, voxel sizes in mm, and what is wrong with it."""

from collections.abc import Sequence
from typing import Any, Final

import nibabel as nib
import numpy as np

from slicewise.core.errors import DataError
from slicewise.domain.keys import CaseKey
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.volume import UNIT_SPACING, Volume

_KEY: Final = CaseKey("input", "array", "array")
_SHAPES: Final = "[row, col], [slice, row, col] or [channel, slice, row, col]"
_KEPT_TYPES: Final = (np.uint8, np.int16, np.uint16)


def volume_from_array(
    array: Any,
    channels: str | Sequence[str] | None,
    spacing: Sequence[float] | None,
    slot: str,
    known: Sequence[str],
) -> Volume:
    """Return an array as a volume; a picture is a volume of one slice.

    Args:
        array: [row, col], [slice, row, col] or [channel, slice, row, col] of numbers, without NaN.
        channels: the name of each channel; by default `slot` for a picture, and `known` for as many channels.
        spacing: mm along (slice, row, col), or None where they are unknown.
        slot: the channel of a picture without `channels`.
        known: the channels of the model.

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
    default = (slot,) if picture else known if array.ndim == 4 else ()
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
    orientation = None if spacing is None else _orientation(parts.shape[1:], spacing)
    sizes = UNIT_SPACING if orientation is None else orientation.spacing()
    return Volume(_KEY, images, presence, None, None, sizes, orientation, channels=names)


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
