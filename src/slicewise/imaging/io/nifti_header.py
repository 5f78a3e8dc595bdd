"""NIfTI headers: what a file holds, how its grid lies in the patient, and what is wrong or assumed.

Training, prediction and the API read every header here, so that a file is judged alike, in the same words.
"""

import gzip
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from slicewise.core.errors import VolumeError
from slicewise.imaging.alignment import MAX_DISPLACEMENT, displacement
from slicewise.imaging.io.file_signatures import HEAD_BYTES, identify_format
from slicewise.imaging.orientation import Orientation

MAX_VOXELS = 512**3
"""A header that asks for more is refused before any memory is taken."""

_MAX_OFFSET = 64 << 20
"""Header extensions longer than this are no header extensions."""
_DAMAGED = (EOFError, zlib.error, cast(type[Exception], isal_zlib.error))
_GZIP_MAGIC: Final = b"\x1f\x8b"
_NULL_LOGGER = logging.Logger("nifti header", logging.CRITICAL)
"""What nibabel corrects without loss is no news; what it cannot correct it raises."""
_HEADERS: Final = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_MM: Final = {1: ("metres", 1e3), 2: ("mm", 1.0), 3: ("micrometres", 1e-3)}
"""Units of length by their code in `xyzt_units`; any other code is read as mm."""
_PLAUSIBLE_MM: Final = (0.01, 50.0)
"""Voxels of MRI, from microscopy to the thickest slices. Units that lead out of this are not believed."""
_MAX_SKEW: Final = 5.0
"""Degrees. At 5 the volume of a voxel is within 1.2 % of the product of its sides."""


class NiftiError(VolumeError):
    """What is wrong with one file.

    Attributes:
        path: the file.
        what: the fault and the way out, without the path.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(path, what)
        self.path, self.what = path, what

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class NiftiHeader:
    """The header of one file with one 3-D volume.

    Attributes:
        shape: voxels along the file's axes.
        stored: type of the voxels in the file.
        offset: byte, of the unpacked file, at which the voxels begin.
        packed: whether the file is compressed, whatever its name.
        slope, intercept: turn stored values into intensities.
        warnings: what had to be assumed, for people.
    """

    path: Path
    shape: tuple[int, int, int]
    stored: np.dtype[Any]
    offset: int
    packed: bool
    slope: float
    intercept: float
    orientation: Orientation
    warnings: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """How long the unpacked file must be at least."""
        return self.offset + math.prod(self.shape) * self.stored.itemsize


@contextmanager
def open_nifti(path: Path, *, header_only: bool = False) -> Iterator[tuple[NiftiHeader, BinaryIO]]:
    """Read the header of a `.nii` or `.nii.gz`; yield it and the stream, which stands behind its fields.

    `header_only` is for those who leave the voxels alone: igzip would inflate 512 KiB ahead.

    Raises:
        NiftiError: the file is missing, damaged or of another kind, holds no 3-D volume of numbers, or its
            affine maps none. Damage met in the block is named likewise.
    """
    with _translate_errors(path), _open(path, gzip if header_only else igzip) as stream:
        yield _read(path, stream), stream


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes the decoders raise into one error that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise NiftiError(path, "does not exist; was it moved or not yet downloaded?") from error
    except _DAMAGED as error:
        raise NiftiError(path, f"truncated or corrupt ({error}); copy or fetch the file again") from error
    except OSError as error:
        if error.errno is None:  # of a decoder, not of the disk
            raise NiftiError(path, f"truncated or corrupt ({error}); copy or fetch the file again") from error
        raise NiftiError(path, f"cannot be read: {error.strerror}; check permissions and disk") from error
    except MemoryError as error:
        raise NiftiError(path, "does not fit into memory; resample it or free some") from error
    except (HeaderDataError, WrapStructError, ArithmeticError, ValueError, TypeError) as error:
        raise NiftiError(path, f"damaged NIfTI header ({error}); convert or fetch it again") from error


def _open(path: Path, decoder: Any) -> BinaryIO:
    """Open for reading, inflating by content rather than by name: mislabelled files are common."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == _GZIP_MAGIC
    return cast(BinaryIO, decoder.open(path, "rb") if compressed else path.open("rb"))


def _read(path: Path, stream: BinaryIO) -> NiftiHeader:
    packed = isinstance(stream, gzip.GzipFile)
    block = _header_block(path, stream, packed)
    raw = _HEADERS[len(block)](block, check=False)
    stored = _stored(path, raw)
    header = raw.copy()
    header.check_fix(_NULL_LOGGER)
    shape = _shape(path, header)
    slope, intercept = header.get_slope_inter()
    with np.errstate(all="ignore"):
        orientation, warnings = _orientation(path, header, raw, shape)
    return NiftiHeader(
        path=path,
        shape=shape,
        stored=stored,
        offset=_voxel_offset(path, header),
        packed=packed,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        orientation=orientation,
        warnings=warnings,
    )


def _header_block(path: Path, stream: BinaryIO, packed: bool) -> bytes:
    """Return the bytes of the header, 348 of NIfTI-1 or 540 of NIfTI-2."""
    block = stream.read(348)
    size = next((size for size in _HEADERS if block[:4] in _both_endians(size)), 0)
    if size and len(block) == 348:
        block += stream.read(size - 348)
        magic = block[344:347] if size == 348 else block[4:7]
        if magic in (b"n+1", b"n+2") and len(block) == size:
            return block
    raise NiftiError(path, _not_nifti(block + stream.read(HEAD_BYTES - len(block)), packed))


def _not_nifti(head: bytes, packed: bool) -> str:
    if not head:
        return "gzip of an empty file; export or fetch it again" if packed else "the file is empty"
    if packed and head.startswith(_GZIP_MAGIC):
        return "compressed with gzip twice; unpack it once (`gunzip`) and use what comes out"
    if kind := identify_format(head):
        return f"its gzip holds no NIfTI file but {kind}" if packed else f"not a NIfTI file but {kind}"
    if any(head[:4] in _both_endians(size) for size in _HEADERS):
        return f"truncated or corrupt (it ends inside the header, after {len(head)} bytes); fetch it again"
    return "not a NIfTI file; convert it to .nii.gz (for example with dcm2niix)"


def _both_endians(number: int) -> tuple[bytes, bytes]:
    return number.to_bytes(4, "little"), number.to_bytes(4, "big")


def _shape(path: Path, header: Any) -> tuple[int, int, int]:
    """Return the shape, refusing what is not one 3-D image of a sane size."""
    dims = tuple(int(size) for size in header.get_data_shape())
    while len(dims) > 3 and dims[-1] == 1:
        dims = dims[:-1]
    size = " x ".join(map(str, dims))
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
        raise NiftiError(path, f"it claims {size} voxels, none or over 512 x 512 x 512; check or resample it")
    return dims[0], dims[1], dims[2]


def _stored(path: Path, raw: Any) -> np.dtype[Any]:
    code, known = int(raw["datatype"]), nib.nifti1.data_type_codes
    if code not in known.code:
        raise NiftiError(path, f"damaged NIfTI header (data type {code} does not exist); fetch it again")
    stored: np.dtype[Any] = np.dtype(raw.get_data_dtype())
    if stored.kind in "iuf" and 0 < stored.itemsize <= 8:
        return stored
    if stored.kind == "c":
        advice = "write their magnitude (numpy.abs) as float32"
    elif stored.names:
        advice = "it is a rendering in colours; use the scan it was made from, with one grey value a voxel"
    else:
        advice = "convert them to integers or float32"
    raise NiftiError(path, f"stores voxels of type {known.label[code]}; {advice}")


def _voxel_offset(path: Path, header: Any) -> int:
    offset = int(header["vox_offset"]) or int(header.single_vox_offset)
    if not 0 <= offset <= _MAX_OFFSET:
        raise NiftiError(path, f"its voxels are said to begin at byte {offset}; convert or fetch it again")
    return offset


def _orientation(
    path: Path, header: Any, raw: Any, shape: tuple[int, int, int]
) -> tuple[Orientation, tuple[str, ...]]:
    """Return the grid in mm and what had to be assumed about it."""
    affine = np.asarray(header.get_best_affine(), np.float64)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    unit, factor = _MM.get(int(raw["xyzt_units"]) & 7, _MM[2])
    scale = next((scale for scale in (factor, 1.0) if _plausible(lengths * scale)), None)
    affine[:3] *= scale or factor
    rows = tuple(tuple(float(value) for value in row) for row in affine)
    form = "sform" if header["sform_code"] > 0 else "qform" if header["qform_code"] > 0 else "pixdim"
    orientation = Orientation(rows, shape, bytes(raw.binaryblock), assumed=form == "pixdim")
    _require_volume(path, orientation, form)
    if scale is None:
        raise NiftiError(
            path,
            f"voxels of {_sides(lengths * factor)} mm are no brain scan's; correct pixdim, {form} and "
            "xyzt_units in its header",
        )
    warnings = list(_list_assumptions(header, raw, form, shape))
    if scale != factor:
        warnings.append(
            f"its header gives lengths in {unit}, but voxels of {_sides(lengths)} {unit} are no brain "
            "scan's: read as mm; correct xyzt_units"
        )
    return orientation, tuple(warnings)


def _plausible(lengths: NDArray[np.float64]) -> bool:
    least, most = _PLAUSIBLE_MM
    return bool(lengths.min() >= least and lengths.max() <= most)


def _sides(lengths: NDArray[np.float64]) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)


def _require_volume(path: Path, orientation: Orientation, form: str) -> None:
    if not np.isfinite(orientation.matrix()).all():
        raise NiftiError(path, f"its affine ({form}) holds NaN or infinity; set its sform or qform")
    if not orientation.is_usable:
        raise NiftiError(path, f"its affine ({form}) maps no volume; set its sform or qform")
    if (skew := orientation.skew()) > _MAX_SKEW:
        raise NiftiError(
            path,
            f"its affine ({form}) is sheared: axes miss the right angle by {skew:.1f} degrees; resample it "
            "to a grid with right angles",
        )


def _list_assumptions(header: Any, raw: Any, form: str, shape: tuple[int, int, int]) -> Iterator[str]:
    if form == "pixdim":
        yield (
            "its header says nothing about the orientation (qform and sform code are 0): the axes are "
            "assumed to run to the left, front and top (LAS); check left and right, and set the sform"
        )
    if form != "sform" and not np.all(raw["pixdim"][1:4]):
        yield "its header gives no length for a side of the voxels (pixdim 0): 1 mm is assumed; correct it"
    if header["sform_code"] > 0 and header["qform_code"] > 0:
        voxels = _form_disagreement(header, shape)
        if voxels > MAX_DISPLACEMENT:
            yield (
                f"its qform and sform differ by up to {voxels:.1f} voxels: the sform is used; make them "
                "agree, since other programs may use the qform"
            )


def _form_disagreement(header: Any, shape: tuple[int, int, int]) -> float:
    """Return how many voxels a voxel moves between the two forms, at most; infinite for a damaged qform."""
    try:
        between = np.linalg.solve(header.get_sform(), header.get_qform())
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return math.inf
    return float(np.abs(displacement(between, shape)).max())
