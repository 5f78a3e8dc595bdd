"""NIfTI headers: type, shape and affine of a file, and what is wrong or assumed about them.

Checks, training, prediction and the API all read headers here, so a file gives the same messages everywhere.
"""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from isal import igzip, isal_zlib

from slicewise.core.errors import VolumeFileError
from slicewise.imaging import orientation as grids
from slicewise.imaging.io import nifti_fields as fields
from slicewise.imaging.io.file_format import HEAD_BYTES, identify_format
from slicewise.imaging.orientation import Orientation, format_sizes, voxel_sides

MAX_VOXELS = 512**3
"""Larger volumes are refused before memory is taken for them."""

_MAX_OFFSET = 64 << 20
"""No header extensions are longer than this."""
_DAMAGED = (EOFError, zlib.error, cast(type[Exception], isal_zlib.error))
_GZIP_MAGIC: Final = b"\x1f\x8b"
_FIRST_BYTES: Final = {
    size.to_bytes(4, order): size for size in fields.LAYOUTS for order in ("little", "big")
}
_MM: Final = {1: ("metres", 1e3), 2: ("mm", 1.0), 3: ("micrometres", 1e-3)}
"""Units of length by their code in `xyzt_units`; any other code is read as mm."""
_PLAUSIBLE_MM: Final = (0.01, 50.0)
"""Range of voxel sides in MRI. Units that lead out of it are taken for wrong."""
MAX_SKEW: Final = 5.0
"""Degrees. At 5 the volume of a voxel is within 1.2 % of the product of its sides."""


_MAX_PARSED: Final = 4096
_parsed: dict[bytes, "NiftiHeader"] = {}


class NiftiError(VolumeFileError):
    """An unusable file."""


@dataclass(frozen=True)
class NiftiHeader:
    """The header of one file with one 3-D volume; slope and intercept map stored values to intensities."""

    path: Path
    shape: tuple[int, int, int]
    """Voxels along the file's axes"""
    stored: np.dtype[Any]
    """Type of the voxels in the file"""
    offset: int
    """Of the voxels in the uncompressed file, in bytes"""
    compressed: bool
    slope: float
    intercept: float
    orientation: Orientation
    warnings: tuple[str, ...]
    """Assumptions that were made about the grid"""

    @property
    def num_bytes(self) -> int:
        """Least length of the uncompressed file."""
        return self.offset + math.prod(self.shape) * self.stored.itemsize


@contextmanager
def open_nifti(path: Path, *, header_only: bool = False) -> Iterator[tuple[NiftiHeader, BinaryIO]]:
    """Read the header of a `.nii` or `.nii.gz`; yield it and the stream, which stands behind its fields.

    `header_only` is faster if no voxels are read: igzip would inflate 512 KiB ahead. Content decides whether
    a file is inflated, not its name: mislabelled files are common.

    Raises:
        NiftiError: the file is missing, damaged or of another kind, holds no 3-D volume of numbers, or its
            affine maps none. Errors of decoding in the block are translated likewise.
    """
    with _translate_errors(path), path.open("rb") as file:
        compressed = file.peek(2)[:2] == _GZIP_MAGIC
        decoder: Any = gzip.GzipFile if header_only else igzip.IGzipFile
        with decoder(fileobj=file, mode="rb") if compressed else nullcontext(file) as stream:
            yield _read(path, stream, compressed), stream


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Turn the errors of decoders and disk into one error that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise NiftiError(path, "does not exist; was it moved or not yet downloaded?") from error
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of a decoder
            raise NiftiError(path, f"cannot be read: {error.strerror}; check permissions and disk") from error
        raise NiftiError(path, f"truncated or corrupt ({error}); copy or fetch the file again") from error
    except MemoryError as error:
        raise NiftiError(path, "does not fit into memory; resample it or free some") from error
    except (ArithmeticError, ValueError, TypeError) as error:
        raise NiftiError(path, f"damaged NIfTI header ({error}); convert or fetch it again") from error


def _read(path: Path, stream: BinaryIO, compressed: bool) -> NiftiHeader:
    """Return the header at the start of a stream; equal ones, as in most data sets, are parsed once."""
    block = _header_block(path, stream, compressed)
    known = _parsed.get(block)
    if known is None:
        known = _parse(path, block, compressed)
        if len(_parsed) < _MAX_PARSED:
            _parsed[block] = known
    return replace(known, path=path, compressed=compressed)


def _parse(path: Path, block: bytes, compressed: bool) -> NiftiHeader:
    raw = fields.parse(block)
    stored = _stored(path, raw)
    header = fields.repaired(raw)
    shape = _shape(path, header)
    slope, intercept = fields.scale(header)
    with np.errstate(all="ignore"):
        orientation, warnings = _orientation(path, header, raw, shape)
    offset = int(header["vox_offset"]) or fields.first_voxel(header)
    if not 0 <= offset <= _MAX_OFFSET:
        raise NiftiError(path, f"its header places the voxels at byte {offset}; convert or fetch it again")
    return NiftiHeader(
        path=path,
        shape=shape,
        stored=stored,
        offset=offset,
        compressed=compressed,
        slope=slope,
        intercept=intercept,
        orientation=orientation,
        warnings=warnings,
    )


def _header_block(path: Path, stream: BinaryIO, compressed: bool) -> bytes:
    """Return the bytes of the header, 348 of NIfTI-1 or 540 of NIfTI-2."""
    block = stream.read(348)
    size = _FIRST_BYTES.get(block[:4], 0)
    if size and len(block) == 348:
        block += stream.read(size - 348)
        magic = block[344:347] if size == 348 else block[4:7]
        if magic in (b"n+1", b"n+2") and len(block) == size:
            return block
    raise NiftiError(path, _not_nifti(block + stream.read(HEAD_BYTES - len(block)), compressed))


def _not_nifti(head: bytes, compressed: bool) -> str:
    if not head:
        return "gzip of an empty file; export or fetch it again" if compressed else "the file is empty"
    if compressed and head.startswith(_GZIP_MAGIC):
        return "compressed with gzip twice; decompress it once (`gunzip`)"
    if kind := identify_format(head):
        return f"its gzip holds no NIfTI file but {kind}" if compressed else f"not a NIfTI file but {kind}"
    if head[:4] in _FIRST_BYTES:
        return f"truncated or corrupt (it ends inside the header, after {len(head)} bytes); fetch it again"
    return "not a NIfTI file; convert it to .nii.gz (for example with dcm2niix)"


def _shape(path: Path, header: fields.Header) -> tuple[int, int, int]:
    """Return the shape of one 3-D image with at most MAX_VOXELS voxels."""
    dims = fields.data_shape(header)
    while len(dims) > 3 and dims[-1] == 1:
        dims = dims[:-1]
    size = format_sizes(dims)
    if len(dims) > 3:
        count = math.prod(dims[3:])
        raise NiftiError(
            path,
            f"{len(dims)}-dimensional, {size}: {count} volumes in one file; one file per modality is needed: "
            "split it (`fslsplit`, or nibabel.four_to_three) and name each part after its modality",
        )
    if len(dims) < 3:
        raise NiftiError(path, f"{len(dims)}-dimensional, {size or 'without voxels'}; a 3-D volume is needed")
    if min(dims) < 1 or math.prod(dims) > MAX_VOXELS:
        raise NiftiError(
            path, f"{size} voxels, none or over 512 x 512 x 512; check its header or resample it"
        )
    return dims[0], dims[1], dims[2]


def _stored(path: Path, raw: fields.Header) -> np.dtype[Any]:
    code = int(raw["datatype"])
    if code not in fields.TYPES:
        raise NiftiError(path, f"damaged NIfTI header (data type {code} does not exist); fetch it again")
    name, kind = fields.TYPES[code]
    stored = np.dtype(kind).newbyteorder(raw.dtype["sizeof_hdr"].byteorder)
    if stored.kind in "iuf" and 0 < stored.itemsize <= 8:
        return stored
    if stored.kind == "c":
        advice = "write their magnitude (numpy.abs) as float32"
    elif stored.names:
        advice = "it is a colour rendering; use the original scan with one grey value per voxel"
    else:
        advice = "convert them to integers or float32"
    raise NiftiError(path, f"stores voxels of type {name}; {advice}")


def _orientation(
    path: Path, header: fields.Header, raw: fields.Header, shape: tuple[int, int, int]
) -> tuple[Orientation, tuple[str, ...]]:
    """Return the grid in mm and the assumptions made about it."""
    affine = fields.best_affine(header)
    lengths = voxel_sides(affine)
    unit, factor = _MM.get(int(raw["xyzt_units"]) & 7, _MM[2])
    least, most = _PLAUSIBLE_MM
    plausible = (
        scale for scale in (factor, 1.0) if lengths.min() * scale >= least and lengths.max() * scale <= most
    )
    scale = next(plausible, None)
    affine[:3] *= scale or factor
    rows = tuple(tuple(float(value) for value in row) for row in affine)
    form = "sform" if header["sform_code"] > 0 else "qform" if header["qform_code"] > 0 else "pixdim"
    orientation = Orientation(rows, shape, raw.tobytes(), assumed=form == "pixdim")
    _require_volume(path, orientation, form)
    if scale is None:
        raise NiftiError(
            path,
            f"voxels of {format_sizes(lengths * factor, '.4g')} mm are implausible for MRI; correct pixdim, "
            f"{form} and xyzt_units in its header",
        )
    warnings = list(_list_assumptions(header, raw, form, shape))
    if scale != factor:
        warnings.append(
            f"its header gives lengths in {unit}, but voxels of {format_sizes(lengths, '.4g')} {unit} are "
            "implausible for MRI: read as mm; correct xyzt_units"
        )
    return orientation, tuple(warnings)


def _require_volume(path: Path, orientation: Orientation, form: str) -> None:
    if not np.isfinite(orientation.matrix()).all():
        raise NiftiError(path, f"its affine ({form}) holds NaN or infinity; set its sform or qform")
    if not orientation.is_usable:
        raise NiftiError(path, f"its affine ({form}) maps no volume; set its sform or qform")
    if (skew := orientation.skew()) > MAX_SKEW:
        raise NiftiError(
            path,
            f"its affine ({form}) is sheared: axes miss the right angle by {skew:.1f} degrees; resample it "
            "to a grid with right angles",
        )


def _list_assumptions(
    header: fields.Header, raw: fields.Header, form: str, shape: tuple[int, int, int]
) -> Iterator[str]:
    if form == "pixdim":
        yield (
            "its header holds no orientation (qform and sform code are 0): the axes are assumed to run to "
            "the left, front and top (LAS); check left and right, and set the sform"
        )
    if form != "sform" and not np.all(raw["pixdim"][1:4]):
        yield "its header gives no length for a side of the voxels (pixdim 0): 1 mm is assumed; correct it"
    if header["sform_code"] > 0 and header["qform_code"] > 0:
        voxels = _form_disagreement(header, shape)
        if voxels > grids.MAX_DISPLACEMENT:
            yield (
                f"its qform and sform differ by up to {voxels:.1f} voxels: the sform is used; make them "
                "agree, since other programs may use the qform"
            )


def _form_disagreement(header: fields.Header, shape: tuple[int, int, int]) -> float:
    """Return the largest displacement between the two forms in voxels; infinite for a damaged qform."""
    try:
        between = np.linalg.solve(fields.sform(header), fields.qform(header))
    except (ValueError, np.linalg.LinAlgError):
        return math.inf
    return float(np.abs(grids.displacement(between, shape)).max())
