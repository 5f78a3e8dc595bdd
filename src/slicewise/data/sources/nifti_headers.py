"""Checks the NIfTI files of a case by their headers and sizes; nothing is decompressed to the end."""

from pathlib import Path

from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.imaging.alignment import compare_grids
from slicewise.imaging.io.nifti_header import NiftiError, NiftiHeader, open_nifti


def check_headers(case: CaseFiles) -> list[Problem]:
    """Return what is wrong with each file, and where the grids of the files differ."""
    problems: list[Problem] = []
    headers: list[NiftiHeader] = []
    for path in case.files:
        try:
            header = _check_length(path)
        except NiftiError as fault:
            problems.append(Problem(path, fault.message))
            continue
        headers.append(header)
        problems += [Problem(path, what, "warning") for what in header.warnings]
    for other in headers[1:]:
        mismatch = compare_grids(headers[0].path.name, headers[0].orientation, other.orientation)
        if mismatch is not None:
            problems.append(Problem(other.path, mismatch.message, "warning" if mismatch.usable else "error"))
    return problems


def _check_length(path: Path) -> NiftiHeader:
    """Return the header of a file that is long enough for its voxels.

    Raises:
        NiftiError: the file is damaged, truncated or of another format.
    """
    with open_nifti(path, header_only=True) as (header, stream):
        size = path.stat().st_size
        if header.compressed and _trailer_fits(header):
            size = header.num_bytes
        elif header.compressed:
            size = len(header.orientation.header)
            while size < header.num_bytes and (chunk := stream.read(1 << 20)):
                size += len(chunk)
    if size < header.num_bytes:
        raise NiftiError(
            path,
            f"truncated: its header promises {header.num_bytes:,} bytes and it holds {size:,}; copy or fetch "
            "the file again",
        )
    return header


def _trailer_fits(header: NiftiHeader) -> bool:
    """Whether the size in the gzip trailer fits the header (RFC 1952: modulo 2^32).

    A file of several gzip members ends in the size of the last one: it must be decompressed to be measured.
    """
    with header.path.open("rb") as stream:
        stream.seek(-4, 2)
        stated = int.from_bytes(stream.read(4), "little")
    return (stated - header.num_bytes) % (1 << 32) < (1 << 20)
