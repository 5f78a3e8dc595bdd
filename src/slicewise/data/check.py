"""Checks cases before any work, by headers and file sizes; nothing is decompressed.

The voxels themselves (NaN, labels, a checksum) are checked when `case_reader.read_case` loads the case.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slicewise.core.console import progress
from slicewise.core.errors import DataError, PictureError
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem, summarise_problems
from slicewise.imaging.alignment import compare_grids
from slicewise.imaging.io.image2d import open_picture
from slicewise.imaging.io.nifti_header import NiftiError, NiftiHeader, open_nifti


def check_cases(cases: Sequence[CaseFiles]) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the usable cases and the problems of all cases, in the order of the cases."""
    usable: list[CaseFiles] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor() as pool:
        results = progress(
            pool.map(check_case, cases), desc="Checking the data", total=len(cases), unit="case"
        )
        for case, case_problems in zip(cases, results, strict=True):
            problems += case_problems
            if all(problem.severity != "error" for problem in case_problems):
                usable.append(case)
    return usable, problems


def require_usable(
    name: str, root: Path, num_found: int, usable: Sequence[CaseFiles], problems: Iterable[Problem]
) -> None:
    """Raise where no case of a source can be used.

    Raises:
        DataError: it names the folder, the number of cases and the most frequent reasons.
    """
    if not usable:
        errors = [problem for problem in problems if problem.severity == "error"]
        raise DataError(
            f"{name}: none of the {num_found} cases in {root} can be used{summarise_problems(errors)}"
        )


def check_case(case: CaseFiles) -> list[Problem]:
    """Return the problems in the headers of a case's files; with one of severity "error" it is unusable."""
    absent = [path for path in case.files if not path.is_file()]
    if absent:
        return [Problem(path, "the file is missing") for path in absent]
    empty = [path for path in case.files if path.stat().st_size == 0]
    if empty:
        return [Problem(path, "the file is empty") for path in empty]
    if case.kind == "nifti":
        return _check_nifti(case)
    return _check_slices(case) if case.kind == "lgg" else []


def require_readable(case: CaseFiles) -> list[Problem]:
    """Return the warnings about a case.

    Raises:
        DataError: it cannot be read; names each faulty file.
    """
    problems = check_case(case)
    if errors := [problem for problem in problems if problem.severity == "error"]:
        raise DataError("; ".join(map(str, errors)))
    return problems


def _check_nifti(case: CaseFiles) -> list[Problem]:
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
