"""Voxels of DICOM series as arrays; pydicom decodes them.

Stored values are rescaled (RescaleSlope and RescaleIntercept of each frame); where the smallest value is
white (MONOCHROME1), values are subtracted from the largest one of the series.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.imaging.io.dicom_frames import DicomError, Frame, translate_errors
from slicewise.imaging.io.dicom_stack import Stack
from slicewise.imaging.io.nifti import ImageFile

_KEPT_TYPES: Final = (np.uint8, np.int16, np.uint16)
_DECODERS: Final = {
    "1.2.840.10008.1.2.4.201": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg pylibjpeg-openjpeg",
}
"""Transfer syntaxes that python-gdcm does not decode (HTJ2K) -> packages that do."""


def explain_syntax(uid: str) -> str | None:
    """Return why frames of a transfer syntax cannot be decoded, and what to install; None if they can."""
    from pydicom.config import IGNORE
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    syntax = UID(uid, IGNORE)
    if uid and not syntax.is_transfer_syntax:
        return f"its pixels are in {uid!r}, which is no transfer syntax of the standard; export it again"
    if not uid or not syntax.is_compressed:
        return None
    name = syntax.name.partition(" (")[0]
    shown = f"its pixels are compressed as {name} ({uid})" if name != uid else f"its pixels are in {uid}"
    try:
        available = get_decoder(uid).is_available
    except NotImplementedError:
        return f"{shown}, which is not read; decompress the series (`gdcmconv --raw`, `dcmdjpeg`)"
    packages = _DECODERS.get(uid, "python-gdcm")
    return None if available else f"{shown}, and no decoder is installed; `pip install {packages}`"


def read_stack(stack: Stack) -> ImageFile:
    """Read the voxels of a stack; uint8, int16 and uint16 that are not rescaled are kept, else float32.

    Raises:
        DicomError: a file is truncated or corrupt, holds no pixels, or its transfer syntax has no decoder.
    """
    by_file: dict[Path, list[int]] = defaultdict(list)
    for place, frame in enumerate(stack.frames):
        by_file[frame.path].append(place)
    slices: list[NDArray[Any]] = [np.empty(0)] * len(stack.frames)
    for path, places in by_file.items():
        frames = [stack.frames[place] for place in places]
        for place, pixels in zip(places, _read_file(path, frames), strict=True):
            slices[place] = pixels
    kinds = {pixels.dtype for pixels in slices}
    dtype = kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)
    cols, rows, count = stack.orientation.shape
    volume = np.zeros((count, rows, cols), dtype)
    volume[list(stack.places)] = np.stack(slices)
    if stack.frames[0].inverted:
        volume[list(stack.places)] = volume.max() - volume[list(stack.places)]
    orientation = stack.orientation
    remarks = tuple(f"{stack.label}: {remark}" for remark in stack.remarks)
    array = orientation.to_radiological(volume.T)
    return ImageFile(
        stack.frames[0].path, array, orientation.spacing(), orientation, float(dtype.kind in "iu"), remarks
    )


def _read_file(path: Path, frames: Sequence[Frame]) -> list[NDArray[Any]]:
    """Return the rescaled pixels [row, col] of frames of one file."""
    from pydicom import dcmread
    from pydicom.uid import ImplicitVRLittleEndian

    if reason := explain_syntax(frames[0].transfer_syntax):
        raise DicomError(path, reason)
    with translate_errors(path):
        dataset = dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        stored = dataset.pixel_array
        if stored.size != stored.size // np.prod(frames[0].shape) * np.prod(frames[0].shape):
            raise ValueError(f"its pixels are {stored.shape}")
        pixels = stored.reshape(-1, *frames[0].shape)
        return [_rescale(pixels[frame.number], frame) for frame in frames]


def _rescale(stored: NDArray[Any], frame: Frame) -> NDArray[Any]:
    native = stored.dtype.newbyteorder("=")
    if (frame.slope, frame.intercept) == (1.0, 0.0):
        kept = np.dtype(np.int16) if native == np.int8 else native
        return stored.astype(kept if kept in _KEPT_TYPES else np.float32)
    return stored.astype(np.float32) * np.float32(frame.slope) + np.float32(frame.intercept)
