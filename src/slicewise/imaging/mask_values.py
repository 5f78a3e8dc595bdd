"""What the values of a mask mean: labels of a volume, or tumour and background of a picture."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.core.errors import VolumeError
from slicewise.domain.labels import EDEMA, ENHANCING, LABEL_FORMATS, LabelMap
from slicewise.imaging.opencv import cv2

_BRATS_ENHANCING: Final = 4
_ROUNDING: Final = 1e-3
"""Rounding error of float32, and of programs that resample with nearest neighbours."""
_WIDEST_STEP: Final = 0.25
"""A value farther from a label than this is not that label, however coarse the file's storage is."""
_MAX_VALUE: Final = 65535
_SHOWN: Final = 8
_GREYS: Final = 16
"""A mask with fewer grey levels than this holds labels or was saved wrongly; it has no soft edges."""
_SOFT_PER_FULL: Final = 2
"""At most this many pixels of a soft edge per pixel inside, or the mask is a map of probabilities."""
_FORMATS: Final = (
    "BraTS 2012-2016, where 3 is the non-enhancing core: brats2015; BraTS-PED, where 4 is edema: brats_ped; "
    "BraTS 2024 after treatment, where 4 is the resection cavity: brats2024"
)


def decode_labels(
    path: Path, values: NDArray[Any], step: float = 0.0, label_map: LabelMap | None = None
) -> NDArray[np.uint8]:
    """Return the labels 0 to 3 of the voxels of a mask.

    Args:
        path: of the mask, for messages.
        values: as read.
        step: between two values that the file can store. A value within a step of a label is that label:
            `Nifti1Image(seg.get_fdata(), affine, header)` stores 1 as 1.0039.
        label_map: the label of each value; None: the labels of BraTS 2017 to 2023, or 0 and one value above 4
            (such as 255) for tumour without its parts.

    Raises:
        VolumeError: other values, or values whose meaning differs between data sets.
    """
    high = values.max()
    if label_map is None and high > _BRATS_ENHANCING + _WIDEST_STEP and _are_only(values, (0, high)):
        return np.where(values > 0, np.uint8(EDEMA), np.uint8(0))
    whole = _whole_numbers(path, values, step)
    if whole.max() <= _BRATS_ENHANCING:
        present = [value for value in range(_BRATS_ENHANCING + 1) if (whole == value).any()]
    else:
        present = np.flatnonzero(np.bincount(whole.ravel())).tolist()
    meaning = _meaning(path, present, label_map)
    if all(meaning[value] == value for value in present):
        return whole.astype(np.uint8, copy=False)
    table = np.zeros(max(256, max(present) + 1), np.uint8)
    table[present] = [meaning[value] for value in present]
    if whole.dtype != np.uint8 or cv2 is None:
        return np.asarray(table[whole])
    return np.asarray(cv2.LUT(whole.reshape(1, -1), table)).reshape(whole.shape)  # ten times as fast


def decode_tumour(folder: Path, values: NDArray[Any]) -> tuple[NDArray[np.bool_], str | None]:
    """Return the tumour in the masks of a case [slice, row, col], and a remark if a threshold was used.

    0 and one other value (1, 255, 65535, ...) are background and tumour. Grey edges are cut at half the
    highest value.

    Raises:
        VolumeError: other values.
    """
    high = values.max()
    if not high and not values.any():
        return np.zeros(values.shape, np.bool_), None
    if values.min() == 0 and _are_only(values, (0, high)):
        return values > 0, None
    inside = np.count_nonzero(values >= 0.9 * high)
    soft = np.count_nonzero(values) - inside
    if values.min() != 0 or high < _GREYS or soft > _SOFT_PER_FULL * inside:
        raise VolumeError(
            f"{folder}: masks hold {_format(values)}; expected 0 and one other value (1 or 255), or grey "
            "edges between two such; save them as 0 and 255"
        )
    return values > high / 2, f"masks with grey values: a pixel is tumour from half of {high:g} on"


def _are_only(values: NDArray[Any], allowed: Iterable[Any]) -> bool:
    return sum(np.count_nonzero(values == value) for value in allowed) == values.size


def _whole_numbers(path: Path, values: NDArray[Any], step: float) -> NDArray[Any]:
    """Return the values of a mask as uint8 or uint16."""
    low, high = values.min(), values.max()
    if low < -_ROUNDING or high > _MAX_VALUE:
        raise _unknown(path, values)
    whole: NDArray[Any] = values
    if values.dtype.kind not in "iu":
        whole = np.rint(values)
        if np.abs(values - whole).max() > max(_ROUNDING, min(step, _WIDEST_STEP)):
            raise _unknown(path, values)
    return whole.astype(np.uint8 if high < np.iinfo(np.uint8).max else np.uint16, copy=False)


def _meaning(path: Path, present: list[int], label_map: LabelMap | None) -> dict[int, int]:
    """Return the label of each value."""
    if label_map is not None:
        meaning = {0: 0, **dict(label_map)}
        if unknown := [value for value in present if value not in meaning]:
            raise VolumeError(
                f"{path} holds {_format(present)}, and {_format(unknown)} is no label of its format "
                f"({_format([*meaning])}); set data.sources.volumes.labels to the format of the data "
                f"({', '.join(LABEL_FORMATS)}, or a map such as {{1:1,2:2,4:3}}). {_FORMATS}"
            )
        return meaning
    if {ENHANCING, _BRATS_ENHANCING} <= {*present}:
        raise VolumeError(
            f"{path} holds {_format(present)}: 3 and 4 mean different things in different data sets; set "
            f"data.sources.volumes.labels. {_FORMATS}"
        )
    if max(present) > _BRATS_ENHANCING:
        raise VolumeError(
            f"{path} holds {_format(present)}, not the labels 0, 1, 2 and 3 or 4; is it the tumour's mask? "
            "If so, give the label of each value in data.sources.volumes.labels, such as {10:1,20:2,30:3}"
        )
    return {0: 0, 1: 1, 2: 2, ENHANCING: ENHANCING, _BRATS_ENHANCING: ENHANCING}


def _unknown(path: Path, values: NDArray[Any]) -> VolumeError:
    return VolumeError(
        f"{path} holds {_format(values)}, not the labels 0, 1, 2 and 3 or 4; is it the tumour's mask? One "
        "that was resampled needs nearest neighbours; a map of probabilities is no mask"
    )


def _format(values: ArrayLike) -> str:
    listed = [f"{value:g}" for value in np.unique(values)]
    more = f", ... ({len(listed)} values)" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
