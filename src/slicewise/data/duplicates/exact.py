"""Identical volumes under two names, which must not be in two subsets of a split.

Releases of BraTS rename their patients. Most volumes of a release have one size, so cases are compared by
size, then by a small block, and whole files are read only where both are equal.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from slicewise.core.hashing import hash_file
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.domain.keys import CaseKey

_BLOCK: Final = 1 << 16


def drop_copies(cases: Sequence[CaseFiles]) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the cases whose images are not byte for byte those of an earlier one, of the same modalities.

    An image that is empty or cannot be read counts as unique: reading it later reports the fault.
    """
    groups = [list(cases)]
    for signature in (_sizes, _hash_block, lambda case: tuple(map(hash_file, case.images))):
        groups = [finer for group in groups for finer in _partition(group, signature) if len(finer) > 1]
    first_of = {case.key: group[0].key for group in groups for case in group[1:]}
    problems: list[Problem] = []
    copies: dict[CaseKey, tuple[Path, ...]] = {case.key: case.copies for case in cases}
    for case in cases:
        if first := first_of.get(case.key):
            what = f"{case.key.case}: the same images, byte for byte, as {first.case}, which is kept"
            problems.append(Problem(case.folder, what, "note"))
            copies[first] += (case.images[0], *case.copies)
    return [replace(case, copies=copies[case.key]) for case in cases if case.key not in first_of], problems


def _partition(
    cases: Iterable[CaseFiles], signature: Callable[[CaseFiles], Hashable]
) -> list[list[CaseFiles]]:
    """Return the cases in groups of equal signature, in the order given."""
    alike: dict[Hashable, list[CaseFiles]] = defaultdict(list)
    for case in cases:
        with suppress(OSError):
            alike[signature(case)].append(case)
    return list(alike.values())


def _sizes(case: CaseFiles) -> Hashable:
    sizes = tuple(path.stat().st_size for path in case.images)
    return (case.kind, case.modalities, sizes) if all(sizes) else case.key


def _hash_block(case: CaseFiles) -> Hashable:
    """Hash the middle of the middle image: the first block is often black in all patients."""
    path = case.images[len(case.images) // 2]
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _BLOCK, 0) // 2)
        return hashlib.sha256(file.read(_BLOCK)).digest()
