"""The integrity check before any work: headers and sizes only, nothing is decompressed.

What only the voxels can tell (NaN, labels, a checksum) is checked once, when `reading.read_case` loads the
case.
"""

import gzip
import math
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from slicewise.core.console import progress
from slicewise.core.errors import DataError, PictureError, VolumeError
from slicewise.data.cases import CaseFiles
from slicewise.data.picture import open_picture
from slicewise.data.problems import Problem, most_frequent
from slicewise.imaging.nifti import MAX_VOXELS

_GZIP_MAGIC: Final = b"\x1f\x8b"
_HEADER_BYTES: Final = 348
_MOST_BYTES: Final = MAX_VOXELS * 16 + (64 << 20)
_AFFINE_TOLERANCE_MM: Final = 1e-2
_SHIFTED: Final = (
    "the affine differs from that of the first modality; voxel is laid on voxel all the same, so register "
    "them if they do not show the same place"
)


def check_cases(cases: Sequence[CaseFiles]) -> tuple[list[CaseFiles], list[Problem]]:
    """Check every case; return those that can be used and all problems, in the order of the cases."""
    usable: list[CaseFiles] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor() as pool:
        results = progress(
            pool.map(check_case, cases), desc="Checking the data", total=len(cases), unit="case"
        )
        for case, found in zip(cases, results, strict=True):
            problems += found
            if all(problem.severity != "error" for problem in found):
                usable.append(case)
    return usable, problems


def require_cases(
    name: str, root: Path, num_found: int, usable: Sequence[CaseFiles], problems: Iterable[Problem]
) -> None:
    """Refuse a source of which no case can be used.

    Raises:
        DataError: it names the folder, the counts and the commonest reasons.
    """
    if not usable:
        faults = [problem for problem in problems if problem.severity == "error"]
        raise DataError(
            f"{name}: {num_found} cases found in {root} and none can be used{most_frequent(faults)}"
        )


def check_case(case: CaseFiles) -> list[Problem]:
    """Look at the headers of a case's files. Problems of severity "error" mean that it cannot be read."""
    absent = [path for path in case.files if not path.is_file()]
    if absent:
        return [Problem(path, "the file is missing") for path in absent]
    empty = [path for path in case.files if path.stat().st_size == 0]
    if empty:
        return [Problem(path, "the file is empty") for path in empty]
    if case.kind == "nifti":
        return _check_nifti(case)
    return _check_slices(case) if case.kind == "lgg" else []


@dataclass(frozen=True)
class _Grid:
    path: Path
    shape: tuple[int, ...]
    affine: Any


def _check_nifti(case: CaseFiles) -> list[Problem]:
    problems: list[Problem] = []
    grids: list[_Grid] = []
    for path in case.files:
        try:
            grids.append(_read_grid(path))
        except VolumeError as error:
            problems.append(Problem(path, str(error)))
    for grid in grids[1:]:
        problems += _compare(grids[0], grid)
    return problems


def _compare(first: _Grid, other: _Grid) -> Iterable[Problem]:
    if first.shape != other.shape:
        yield Problem(other.path, f"{other.shape} voxels where {first.path.name} has {first.shape}")
    elif not np.allclose(first.affine, other.affine, atol=_AFFINE_TOLERANCE_MM):
        yield Problem(other.path, _SHIFTED, "warning")


def _read_grid(path: Path) -> _Grid:
    """Read shape and affine, and see whether the file is long enough for its voxels.

    Raises:
        VolumeError: with the fault alone; the caller names the file.
    """
    try:
        with path.open("rb") as stream:
            compressed = stream.read(2) == _GZIP_MAGIC
        with cast(IO[bytes], gzip.open(path) if compressed else path.open("rb")) as stream:
            header = _parse(stream.read(_HEADER_BYTES), stream)
        needed = int(header["vox_offset"]) + math.prod(header.get_data_shape()) * header["bitpix"].item() // 8
        _require_sane(needed)
        whole = _gzip_holds(path, needed) if compressed else path.stat().st_size >= needed
        grid = _Grid(path, _shape(header), header.get_best_affine())
    except (EOFError, OSError, zlib.error, cast(type[Exception], isal_zlib.error)) as error:
        raise VolumeError(f"truncated or corrupt ({error})") from error
    except (HeaderDataError, WrapStructError, ValueError, ArithmeticError, TypeError) as error:
        raise VolumeError(f"damaged NIfTI header ({error})") from error
    if not whole:
        raise VolumeError("truncated: shorter than its header says")
    return grid


def _require_sane(needed: int) -> None:
    if not 0 <= needed <= _MOST_BYTES:
        raise ValueError(f"it claims {needed:,} bytes")


def _parse(block: bytes, stream: IO[bytes]) -> Any:
    kinds = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
    for size, kind in kinds.items():
        if block[:4] in (size.to_bytes(4, "little"), size.to_bytes(4, "big")):
            with LoggingOutputSuppressor():
                return kind(block + stream.read(size - _HEADER_BYTES))
    raise ValueError("not NIfTI")


def _shape(header: Any) -> tuple[int, ...]:
    shape = tuple(int(size) for size in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"{shape} voxels, not three-dimensional")
    return shape


def _gzip_holds(path: Path, needed: int) -> bool:
    """Compare with the size in the gzip trailer (RFC 1952: modulo 2^32).

    A file of several gzip members ends in the size of the last one alone; only then everything is inflated.
    """
    with path.open("rb") as stream:
        stream.seek(-4, 2)
        stated = int.from_bytes(stream.read(4), "little")
    return (stated - needed) % (1 << 32) < (1 << 20) or _inflated_size(path, needed) >= needed


def _inflated_size(path: Path, enough: int) -> int:
    total = 0
    with igzip.open(path, "rb") as stream:
        while total < enough and (chunk := stream.read(1 << 20)):
            total += len(chunk)
    return total


def _check_slices(case: CaseFiles) -> list[Problem]:
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
