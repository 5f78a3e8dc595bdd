"""NIfTI files to arrays and back, quickly and with every damage named.

nibabel supplies the header, the affine and the orientation algebra. The voxels are inflated by igzip straight
into their final type, because `get_fdata` takes four times as long by way of float64.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from slicewise.core.errors import VolumeError
from slicewise.core.files import atomic_write
from slicewise.imaging.orientation import Orientation

MAX_VOXELS = 512**3
"""A header that asks for more is refused before any memory is taken."""

_NATIVE = (np.dtype(np.uint8), np.dtype(np.int16), np.dtype(np.uint16))
_CHUNK = 1 << 20
_FEWEST_NUMBERS = 0.01
"""A brain is at least this share of a volume."""
_MAX_TRAILER_CHUNKS = 64
_MAX_OFFSET = 64 << 20
"""Header extensions longer than this are no header extensions."""
_MOST_INFLATION = 1032
"""Deflate cannot pack bytes tighter (zlib's technical notes)."""
_DAMAGED = (EOFError, OSError, cast(type[Exception], isal_zlib.error))
_GZIP_MAGIC = b"\x1f\x8b"
_SILENT = logging.Logger("nifti header", logging.CRITICAL)
"""What nibabel mends without loss is no news; what it cannot mend it raises."""
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


@dataclass(frozen=True)
class NiftiFile:
    """The voxels of one file as [slice, row, col]; a view wherever the file's axes allow it."""

    path: Path
    array: NDArray[Any]
    spacing: tuple[float, float, float]
    orientation: Orientation
    notes: tuple[str, ...] = ()
    """What is odd about the voxels, with the name of the file."""


def read_nifti(path: Path) -> NiftiFile:
    """Read a 3-D `.nii` or `.nii.gz`.

    uint8, int16 and uint16 are kept, everything else (and every scaled file) becomes float32. NaN and
    infinity, which other programs write outside the brain, become 0.

    Raises:
        VolumeError: the file is missing, truncated, corrupt, not 3-D, too large or holds hardly any number.
    """
    with _named_damage(path), _open(path) as stream:
        header = _read_header(path, stream)
        shape, stored = _layout(path, header)
        offset = _voxel_offset(path, header)
        _require_bytes(path, stream, offset + math.prod(shape) * stored.itemsize)
        raw = np.empty(shape, stored, order="F")
        _skip(stream, offset - int(header["sizeof_hdr"]))
        _fill(stream, raw)
        _check_trailer(stream)
    orientation = _orientation(path, header, shape)
    voxels, notes = _without_nan(path, _convert(raw, header))
    return NiftiFile(path, orientation.to_view(voxels), orientation.spacing(), orientation, notes)


def write_nifti(path: Path, array: NDArray[Any], orientation: Orientation, like: Path | None = None) -> None:
    """Write [slice, row, col] on a file's own grid, atomically; compressed where `path` ends in .gz.

    Where `like` names the file of that grid, its qform and sform are repeated with their codes: programs
    differ in which of the two they believe.

    Raises:
        VolumeError: `like` cannot be read any more.
    """
    image = nib.Nifti1Image(np.asfortranarray(orientation.to_file(array)), np.array(orientation.affine))
    image.header.set_xyzt_units("mm")
    if like is not None:
        _repeat_forms(like, image)
    data = image.to_bytes()
    with atomic_write(path) as stream:
        stream.write(igzip.compress(data) if path.suffix == ".gz" else data)


def _repeat_forms(like: Path, image: Any) -> None:
    with _named_damage(like), _open(like) as stream:
        header = _read_header(like, stream)
    with suppress(HeaderDataError, ValueError):  # a form that is damaged was not the one that was read
        image.set_sform(*header.get_sform(coded=True), update_affine=False)
        image.set_qform(*header.get_qform(coded=True), update_affine=False)


@contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes the decoders raise into one error that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise VolumeError(f"{path} does not exist; was it moved or not yet downloaded?") from error
    except _DAMAGED as error:
        raise VolumeError(f"{path} is truncated or corrupt ({error}); fetch the file again") from error
    except MemoryError as error:
        raise VolumeError(f"{path} does not fit into memory; resample it or free some") from error
    except (HeaderDataError, WrapStructError, ArithmeticError, ValueError, TypeError) as error:
        raise VolumeError(
            f"{path} has a damaged NIfTI header ({error}); convert or fetch it again"
        ) from error


def _open(path: Path) -> BinaryIO:
    """Open for reading, inflating by content rather than by name: mislabelled files are common."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == _GZIP_MAGIC
    return cast(BinaryIO, igzip.open(path, "rb") if compressed else path.open("rb"))


def _read_header(path: Path, stream: BinaryIO) -> Any:
    block = stream.read(348)
    sizes = {size: kind for size, kind in _HEADERS.items() if block[:4] in _both_endians(size)}
    if len(block) < 348 or not sizes:
        raise VolumeError(f"{path} is not a NIfTI file; convert it to .nii.gz (for example with dcm2niix)")
    size, kind = sizes.popitem()
    block += stream.read(size - 348)
    header = kind(block, check=False)
    header.check_fix(_SILENT)
    if not bytes(header["magic"]).startswith(b"n+"):
        raise VolumeError(
            f"{path} has magic {bytes(header['magic'])!r}, not a single-file NIfTI; convert it to .nii.gz"
        )
    return header


def _both_endians(number: int) -> tuple[bytes, bytes]:
    return number.to_bytes(4, "little"), number.to_bytes(4, "big")


def _layout(path: Path, header: Any) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """Return shape and stored type, refusing what is not one real 3-D image of a sane size."""
    dims = tuple(int(size) for size in header.get_data_shape())
    while len(dims) > 3 and dims[-1] == 1:
        dims = dims[:-1]
    stored = np.dtype(header.get_data_dtype())
    if len(dims) != 3:
        raise VolumeError(
            f"{path} is {len(dims)}-dimensional {dims}; a 3-D volume is needed, one file per modality"
        )
    if min(dims) < 1 or dims[0] * dims[1] * dims[2] > MAX_VOXELS:
        raise VolumeError(
            f"{path} claims {dims} voxels, more than 512 x 512 x 512 or none; check or resample it"
        )
    if stored.kind not in "iuf":
        raise VolumeError(f"{path} stores {stored} voxels; convert it to integers or float32")
    return (dims[0], dims[1], dims[2]), stored


def _voxel_offset(path: Path, header: Any) -> int:
    offset = int(header["vox_offset"]) or int(header.single_vox_offset)
    if not 0 <= offset <= _MAX_OFFSET:
        raise VolumeError(f"{path} says that its voxels begin at byte {offset}; convert or fetch it again")
    return offset


def _require_bytes(path: Path, stream: BinaryIO, needed: int) -> None:
    """Refuse a file that cannot hold its voxels, before memory is taken for them."""
    packed = isinstance(stream, igzip.IGzipFile)
    most = path.stat().st_size * (_MOST_INFLATION if packed else 1)
    if most < needed:
        raise EOFError(f"it holds at most {most:,} of {needed:,} bytes")


def _skip(stream: BinaryIO, count: int) -> None:
    while count > 0:
        step = len(stream.read(min(count, _CHUNK)))
        if not step:
            raise EOFError("it ends inside the header")
        count -= step


def _fill(stream: BinaryIO, raw: NDArray[Any]) -> None:
    """Inflate straight into the array: no second copy of the voxels is ever held."""
    target = raw.reshape(-1, order="F").view(np.uint8).data
    done = 0
    while done < len(target):
        step = cast(Any, stream).readinto(target[done : done + _CHUNK])
        if not step:
            raise EOFError(f"it ends after {done:,} of {len(target):,} bytes of voxels")
        done += step


def _check_trailer(stream: BinaryIO) -> None:
    """Read to the end, which is where gzip keeps its checksum; not for ever, trailing rubbish is legal."""
    for _ in range(_MAX_TRAILER_CHUNKS):
        if not stream.read(_CHUNK):
            return


def _orientation(path: Path, header: Any, shape: tuple[int, int, int]) -> Orientation:
    with _named_damage(path), np.errstate(all="ignore"):
        affine = np.asarray(header.get_best_affine(), np.float64)
    orientation = Orientation(tuple(tuple(float(value) for value in row) for row in affine), shape)
    with _named_damage(path), np.errstate(all="ignore"):
        usable = orientation.is_usable
    if not usable:
        raise VolumeError(f"{path} has an affine that maps no volume; set its sform or qform")
    return orientation


def _convert(raw: NDArray[Any], header: Any) -> NDArray[Any]:
    """Apply the header's scaling in float32; unscaled small integers stay as they are."""
    slope, intercept = header.get_slope_inter()
    slope, intercept = (
        (1.0 if slope is None else float(slope)),
        (0.0 if intercept is None else float(intercept)),
    )
    native = raw.dtype.newbyteorder("=")
    if (slope, intercept) == (1.0, 0.0) and native in _NATIVE:
        return raw.astype(native, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        array = raw.astype(np.float32)
        array *= np.float32(slope)
        array += np.float32(intercept)
    return array


def _without_nan(path: Path, array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Replace what is no number by 0, and say so."""
    if array.dtype.kind != "f" or (finite := np.isfinite(array)).all():
        return array, ()
    count = np.count_nonzero(finite)
    if count < _FEWEST_NUMBERS * array.size:
        raise VolumeError(f"{path} holds NaN or infinity in all but {count:,} voxels; export it again")
    array[~finite] = 0
    return array, (f"{path.name}: {array.size - count:,} voxels are NaN or infinite and count as background",)
