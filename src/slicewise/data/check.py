"""Checks cases before any work, by headers and file sizes; nothing is decompressed.

The voxels themselves (NaN, labels, a checksum) are checked when `CaseFiles.read` loads the case.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slicewise.core.console import progress
from slicewise.core.errors import DataError
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem, summarise_problems


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
    return case.source.check(case)


def require_readable(case: CaseFiles) -> list[Problem]:
    """Return the warnings about a case.

    Raises:
        DataError: it cannot be read; names each faulty file.
    """
    problems = check_case(case)
    if errors := [problem for problem in problems if problem.severity == "error"]:
        raise DataError("; ".join(map(str, errors)))
    return problems
