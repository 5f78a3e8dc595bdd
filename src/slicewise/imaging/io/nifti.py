"""Voxels of NIfTI files as arrays and back; errors name the damage.

libdeflate inflates a file in one call, in under half the time of a stream, into the memory that becomes the
array. It is told how many bytes the header promises and writes no more. Whatever is odd about a file (several
members, bytes behind the voxels, damage) is left to a stream, which copes or says what is wrong. `get_fdata`,
by way of float64, takes ten times as long. The header is read by `nifti_header`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from slicewise.core.errors import VolumeError
from slicewise.core.files import atomic_write
from slicewise.imaging.io import nifti_fields as fields
from slicewise.imaging.io.nifti_header import NiftiError, NiftiHeader, open_nifti
from slicewise.imaging.orientation import Orientation, compare_grids, reorder_axes

try:
    import deflate
except ImportError:  # a machine without a wheel or a compiler: streams read the same, in more time
    deflate = None

_NATIVE = (np.dtype(np.uint8), np.dtype(np.int16), np.dtype(np.uint16))
_CHUNK = 1 << 20
_MIN_FINITE = 0.01
"""A brain fills at least this share of a volume."""
_MAX_TRAILER_CHUNKS = 64
_MAX_PACKED = 256 << 20
"""Larger files are read as a stream: the packed bytes would take as much memory as the voxels."""
_MAX_INFLATION = 1032
"""Deflate cannot pack bytes tighter (zlib's technical notes)."""
_GEOMETRY: Final = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
"""Header fields that place the voxels in the patient."""


@dataclass(frozen=True)
class ImageFile:
    """The voxels of a NIfTI file or a DICOM series as [slice, row, col]; a view where its axes allow it."""

    path: Path
    """Of a series its first file"""
    array: NDArray[Any]
    spacing: tuple[float, float, float]
    orientation: Orientation
    step: float
    """Difference of two neighbouring values that a file of integers can store; 0 for floats."""
    remarks: tuple[str, ...] = ()
    """Oddities of the voxels, with the name of the file."""


def read_nifti(path: Path) -> ImageFile:
    """Read a 3-D `.nii` or `.nii.gz`.

    uint8, int16 and uint16 are kept, everything else (and every scaled file) becomes float32. NaN and
    infinity, which other programs write outside the brain, become 0.

    Raises:
        VolumeError: the file is missing, truncated, corrupt, not 3-D, too large or holds hardly any number.
    """
    header, raw = _inflate(path) or _read_stream(path)
    orientation = header.orientation
    voxels, remarks = _without_nan(path, _convert(header, raw))
    step = abs(header.slope) if header.stored.kind in "iu" else 0.0
    return ImageFile(
        path, orientation.to_radiological(voxels), orientation.spacing(), orientation, step, remarks
    )


def _inflate(path: Path) -> tuple[NiftiHeader, NDArray[Any]] | None:
    """Return the header and the voxels of a packed file, in file order; None if a stream must tell."""
    with open_nifti(path, header_only=True) as (header, _):
        size = path.stat().st_size
        plain = header.compressed and header.offset >= len(header.orientation.header)
        if deflate is None or not plain or size > _MAX_PACKED or size * _MAX_INFLATION < header.num_bytes:
            return None
        packed = path.read_bytes()
        try:
            data = deflate.gzip_decompress(packed, header.num_bytes)
        except deflate.DeflateError:
            return None
    if len(data) != header.num_bytes or int.from_bytes(packed[-4:], "little") != len(data) % (1 << 32):
        return None  # several members
    return header, np.frombuffer(data, header.stored, offset=header.offset).reshape(header.shape, order="F")


def _read_stream(path: Path) -> tuple[NiftiHeader, NDArray[Any]]:
    """Do what `_inflate` does for any file."""
    with open_nifti(path) as (header, stream):
        most = path.stat().st_size * (_MAX_INFLATION if header.compressed else 1)
        if most < header.num_bytes:  # before memory is taken for the voxels
            raise EOFError(f"it holds at most {most:,} of {header.num_bytes:,} bytes")
        raw = np.empty(header.shape, header.stored, order="F")
        extensions = max(header.offset - len(header.orientation.header), 0)
        if len(stream.read(extensions)) < extensions:
            raise EOFError("it ends inside the header")
        _fill(stream, raw)
        for _ in range(_MAX_TRAILER_CHUNKS):  # gzip's checksum is at the end; trailing garbage is legal
            if not stream.read(_CHUNK):
                break
    return header, raw


def align(first: ImageFile, other: ImageFile) -> ImageFile:
    """Return another file of the same grid in the view of the first, [slice, row, col].

    Raises:
        VolumeError: its grid differs from that of the first.
    """
    mismatch = compare_grids(first.path.name, first.orientation, other.orientation)
    if mismatch is not None and not mismatch.usable:
        raise NiftiError(other.path, mismatch.message)
    stored = other.orientation.to_file_order(other.array)
    array = first.orientation.to_radiological(reorder_axes(first.orientation, other.orientation, stored))
    return replace(other, array=array, orientation=first.orientation, spacing=first.spacing)


def write_nifti(path: Path, array: NDArray[Any], orientation: Orientation) -> None:
    """Write [slice, row, col] on a file's own grid, atomically; compressed where `path` ends in .gz."""
    data = nifti_bytes(array, orientation, compressed=path.suffix == ".gz")
    with atomic_write(path) as stream:
        stream.write(data)


def nifti_bytes(
    array: NDArray[Any],
    orientation: Orientation,
    *,
    compressed: bool,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> bytes:
    """Return [slice, row, col] as the bytes of a NIfTI file on a file's own grid.

    Readers multiply the values by `slope` and add `intercept`.

    The header repeats the geometry of that file, qform and sform with their codes: programs differ in which
    of the two they use.
    """
    voxels = np.asfortranarray(orientation.to_file_order(array))
    source = fields.parse(orientation.header)
    header = fields.blank(len(orientation.header), voxels.dtype, voxels.shape)
    for field in _GEOMETRY:
        header[field] = source[field]
    header["scl_slope"], header["scl_inter"] = slope, intercept
    gap = bytes(fields.first_voxel(header) - len(orientation.header))
    data = header.tobytes() + gap + voxels.tobytes(order="F")
    return igzip.compress(data, mtime=0) if compressed else data  # the same mask, the same bytes


def _fill(stream: BinaryIO, raw: NDArray[Any]) -> None:
    """Inflate straight into the array, without a second copy of the voxels."""
    target = raw.reshape(-1, order="F").view(np.uint8).data
    done = 0
    while done < len(target):
        step = cast(Any, stream).readinto(target[done : done + _CHUNK])
        if not step:
            raise EOFError(f"it ends after {done:,} of {len(target):,} bytes of voxels")
        done += step


def _convert(header: NiftiHeader, raw: NDArray[Any]) -> NDArray[Any]:
    """Return the voxels scaled in float32; unscaled small integers keep their type."""
    native = raw.dtype.newbyteorder("=")
    if (header.slope, header.intercept) == (1.0, 0.0) and native in _NATIVE:
        return raw.astype(native, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        array = raw.astype(np.float32)
        array *= np.float32(header.slope)
        array += np.float32(header.intercept)
    return array


def _without_nan(path: Path, array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the array with NaN and infinity replaced by 0, and a remark if there were any."""
    if array.dtype.kind != "f" or (finite := np.isfinite(array)).all():
        return array, ()
    count = np.count_nonzero(finite)
    if count < _MIN_FINITE * array.size:
        raise VolumeError(f"{path} holds NaN or infinity in all but {count:,} voxels; export it again")
    array[~finite] = 0
    return array, (f"{path.name}: {array.size - count:,} voxels are NaN or infinite and count as background",)
