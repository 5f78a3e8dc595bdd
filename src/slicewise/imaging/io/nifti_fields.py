"""The fields of a NIfTI header: their layout, the repair of what is clearly wrong, shape, scale and affine.

It reads and writes the bytes that nibabel does (tests compare both); that library takes longer to be imported
than a picture to be predicted, and as much disk as Pillow. Layouts: nifti1.h and nifti2.h.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Header: TypeAlias = NDArray[np.void]
"""[] of one of `LAYOUTS`, in the byte order of the file"""

_FORMS: Final = [
    *(("quatern_b", "f"), ("quatern_c", "f"), ("quatern_d", "f")),
    *(("qoffset_x", "f"), ("qoffset_y", "f"), ("qoffset_z", "f")),
    *(("srow_x", "f", 4), ("srow_y", "f", 4), ("srow_z", "f", 4)),
]


def _layout(fields: Sequence[tuple[Any, ...]], floats: str) -> np.dtype[Any]:
    """Return the type of a header; the type `f` of a field stands for `floats`."""
    return np.dtype([(name, floats if kind == "f" else kind, *rest) for name, kind, *rest in fields])


LAYOUTS: Final = {
    348: _layout(
        [
            *(("sizeof_hdr", "i4"), ("data_type", "S10"), ("db_name", "S18"), ("extents", "i4")),
            *(("session_error", "i2"), ("regular", "S1"), ("dim_info", "u1"), ("dim", "i2", 8)),
            *(("intent_p1", "f"), ("intent_p2", "f"), ("intent_p3", "f"), ("intent_code", "i2")),
            *(("datatype", "i2"), ("bitpix", "i2"), ("slice_start", "i2"), ("pixdim", "f", 8)),
            *(("vox_offset", "f"), ("scl_slope", "f"), ("scl_inter", "f"), ("slice_end", "i2")),
            *(("slice_code", "u1"), ("xyzt_units", "u1"), ("cal_max", "f"), ("cal_min", "f")),
            *(("slice_duration", "f"), ("toffset", "f"), ("glmax", "i4"), ("glmin", "i4")),
            *(("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "i2"), ("sform_code", "i2")),
            *_FORMS,
            *(("intent_name", "S16"), ("magic", "S4")),
        ],
        "f4",
    ),
    540: _layout(
        [
            *(("sizeof_hdr", "i4"), ("magic", "S4"), ("eol_check", "i1", 4), ("datatype", "i2")),
            *(("bitpix", "i2"), ("dim", "i8", 8), ("intent_p1", "f"), ("intent_p2", "f")),
            *(("intent_p3", "f"), ("pixdim", "f", 8), ("vox_offset", "i8"), ("scl_slope", "f")),
            *(("scl_inter", "f"), ("cal_max", "f"), ("cal_min", "f"), ("slice_duration", "f")),
            *(("toffset", "f"), ("slice_start", "i8"), ("slice_end", "i8"), ("descrip", "S80")),
            *(("aux_file", "S24"), ("qform_code", "i4"), ("sform_code", "i4")),
            *_FORMS,
            *(("slice_code", "i4"), ("xyzt_units", "i4"), ("intent_code", "i4")),
            *(("intent_name", "S16"), ("dim_info", "u1"), ("unused_str", "S15")),
        ],
        "f8",
    ),
}
"""The layout by the size of the header: NIfTI-1 and NIfTI-2"""
TYPES: Final = {
    0: ("none", "V"),
    1: ("binary", "V"),
    2: ("uint8", "u1"),
    4: ("int16", "i2"),
    8: ("int32", "i4"),
    16: ("float32", "f4"),
    32: ("complex64", "c8"),
    64: ("float64", "f8"),
    128: ("RGB", "u1,u1,u1"),
    255: ("all", "V"),
    256: ("int8", "i1"),
    512: ("uint16", "u2"),
    768: ("uint32", "u4"),
    1024: ("int64", "i8"),
    1280: ("uint64", "u8"),
    1536: ("float128", "V"),
    1792: ("complex128", "c16"),
    2048: ("complex256", "V"),
    2304: ("RGBA", "u1,u1,u1,u1"),
}
"""Name and NumPy type of the codes in `datatype`; V is read by no one"""
_MAGIC: Final = {348: b"n+1", 540: b"n+2"}
_FIRST_VOXEL: Final = {348: 352, 540: 544}
_LINE_ENDS: Final = (13, 10, 26, 10)
_XFORM_CODES: Final = range(6)
_EPSILONS: Final = {348: 3 * float(np.finfo(np.float32).eps), 540: 3 * float(np.finfo(np.float64).eps)}
"""Below it the square of a quaternion's first part is 0 but for rounding"""


class HeaderError(ValueError):
    """A header that no repair makes sense of."""


def parse(block: bytes) -> Header:
    """Return the header in the 348 or 540 bytes of a file of any byte order."""
    header: Header = np.ndarray((), LAYOUTS[len(block)], block)
    dimensions = int(header["dim"][0])
    swapped = not 0 <= dimensions <= 7
    if dimensions == 0:
        swapped = int(header["sizeof_hdr"].byteswap()) == len(block)
    return np.ndarray((), header.dtype.newbyteorder() if swapped else header.dtype, block).copy()


def blank(size: int, dtype: np.dtype[Any], shape: Sequence[int]) -> Header:
    """Return a header of this size for voxels of a type and shape, with nothing on where they lie."""
    header: Header = np.zeros((), LAYOUTS[size])
    header["sizeof_hdr"], header["magic"] = size, _MAGIC[size]
    if size == 540:
        header["eol_check"] = _LINE_ENDS
    header["datatype"] = next(code for code, (_, kind) in TYPES.items() if kind == dtype.str[1:])
    header["bitpix"] = 8 * dtype.itemsize
    header["dim"], header["pixdim"], header["scl_slope"] = 1, 1, 1
    header["dim"][: len(shape) + 1] = len(shape), *shape
    header["vox_offset"] = first_voxel(header)
    return header


def first_voxel(header: Header) -> int:
    """Return the smallest offset of the voxels, in bytes."""
    return _FIRST_VOXEL[header.dtype.itemsize]


def repaired(header: Header) -> Header:
    """Return a copy in which what is clearly wrong has its usual value: voxel sides, their sign, codes.

    Raises:
        HeaderError: something else is damaged.
    """
    header, size = header.copy(), header.dtype.itemsize
    sides = header["pixdim"][1:4]
    sides[sides == 0] = 1
    header["pixdim"][1:4] = np.abs(sides)
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1
    if (magic := header["magic"].item()) != _MAGIC[size]:
        raise HeaderError(f"magic string {magic.decode('latin1')!r} is not valid")
    offset = header["vox_offset"].item()
    if offset != 0 and offset < first_voxel(header):
        raise HeaderError(f"vox offset {int(offset)} too low for single file nifti1")
    for code in ("qform_code", "sform_code"):
        if int(header[code]) not in _XFORM_CODES:
            header[code] = 0
    if size == 540 and tuple(header["eol_check"].tolist()) not in (_LINE_ENDS, (0, 0, 0, 0)):
        raise HeaderError("EOL check not 0 or 13, 10, 26, 10; data may be corrupted by EOL conversion")
    return header


def data_shape(header: Header) -> tuple[int, ...]:
    """Return the number of voxels along each axis."""
    dimensions = int(header["dim"][0])
    return tuple(header["dim"][1 : dimensions + 1].tolist()) if dimensions else (0,)


def scale(header: Header) -> tuple[float, float]:
    """Return slope and intercept of the stored values; (1, 0) where the header has no slope.

    Raises:
        HeaderError: there is a slope, and the intercept is not finite.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    if not np.isfinite(intercept):
        raise HeaderError(f"Valid slope but invalid intercept {intercept}")
    return slope, intercept


def best_affine(header: Header) -> NDArray[np.float64]:
    """Return the affine [4, 4] of voxels to mm: the sform, else the qform, else that of the voxels' sides.

    Raises:
        ValueError: the quaternion of the qform is none.
    """
    if header["sform_code"] > 0:
        return sform(header)
    if header["qform_code"] > 0:
        return qform(header)
    sides, shape = np.array(header["pixdim"][1:4]), np.array(header["dim"][1:4])
    sides[0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = np.diag(sides)
    affine[:3, 3] = -((shape - 1) / 2.0) * sides
    return affine


def sform(header: Header) -> NDArray[np.float64]:
    """Return the affine of the rows `srow_x`, `srow_y` and `srow_z`."""
    affine = np.eye(4)
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        affine[row] = header[name]
    return affine


def qform(header: Header) -> NDArray[np.float64]:
    """Return the affine of the quaternion, the voxels' sides and the offset.

    Raises:
        ValueError: the quaternion is longer than 1.
    """
    sides = header["pixdim"][1:4].copy()
    sides[2] *= header["pixdim"][0]
    affine = np.eye(4)
    affine[:3, :3] = np.dot(_rotation(header), np.diag(sides))
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return affine


def _rotation(header: Header) -> NDArray[np.longdouble]:
    """Return the rotation [3, 3] of the unit quaternion of which the header holds three parts."""
    parts = np.asarray([header[f"quatern_{part}"] for part in "bcd"], np.longdouble)
    square: Any = 1.0 - parts @ parts
    if abs(square) < _EPSILONS[header.dtype.itemsize]:
        square = np.longdouble(0)
    elif square < 0:
        raise HeaderError(f"w2 should be positive, but is {square:e}")
    w, x, y, z = np.r_[np.sqrt(square), parts]
    length = w * w + x * x + y * y + z * z
    if length < np.finfo(np.float64).eps:
        return np.eye(3, dtype=np.longdouble)
    xs, ys, zs = (part * (2.0 / length) for part in (x, y, z))
    return np.array(
        [
            [1.0 - (y * ys + z * zs), x * ys - w * zs, x * zs + w * ys],
            [x * ys + w * zs, 1.0 - (x * xs + z * zs), y * zs - w * xs],
            [x * zs - w * ys, y * zs + w * xs, 1.0 - (x * xs + y * ys)],
        ]
    )
