"""Volumes that are the same under two names: they must not stand on two sides of a split.

Releases of BraTS give their patients new names. Most volumes of a release have one size, so a small block
tells patients apart, and files are read whole only where it does not.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.domain.keys import CaseKey

_BLOCK: Final = 1 << 16
_CHUNK: Final = 1 << 20


def drop_copies(cases: Sequence[CaseFiles]) -> tuple[list[CaseFiles], list[Problem]]:
    """Leave out each case whose images are byte for byte those of an earlier one, of the same modalities.

    An image that is empty or cannot be read is like no other here; those who read it later name it.
    """
    groups = [list(cases)]
    for signature in (_sizes, _hash_block, _hash_contents):
        groups = [finer for group in groups for finer in _partition(group, signature) if len(finer) > 1]
    first_of = {case.key: group[0].key for group in groups for case in group[1:]}
    problems = [
        Problem(
            case.folder,
            f"{case.key.case}: the same images, byte for byte, as {first_of[case.key].case}, which is kept",
            "note",
        )
        for case in cases
        if case.key in first_of
    ]
    copies: dict[CaseKey, list[CaseFiles]] = defaultdict(list)
    for case in cases:
        if case.key in first_of:
            copies[first_of[case.key]].append(case)
    unique = [case for case in cases if case.key not in first_of]
    return [_with_copies(case, copies.get(case.key, ())) for case in unique], problems


def _with_copies(case: CaseFiles, others: Iterable[CaseFiles]) -> CaseFiles:
    other_paths = tuple(path for other in others for path in (other.images[0], *other.copies))
    return replace(case, copies=case.copies + other_paths)


def _partition(
    cases: Iterable[CaseFiles], signature: Callable[[CaseFiles], Hashable]
) -> list[list[CaseFiles]]:
    """Put together the cases that look the same, in the order given."""
    alike: dict[Hashable, list[CaseFiles]] = defaultdict(list)
    for case in cases:
        with suppress(OSError):
            alike[signature(case)].append(case)
    return list(alike.values())


def _sizes(case: CaseFiles) -> Hashable:
    sizes = tuple(path.stat().st_size for path in case.images)
    return (case.kind, case.modalities, sizes) if all(sizes) else case.key


def _hash_block(case: CaseFiles) -> Hashable:
    """Look at the middle of the middle image: what comes first is often black in all patients."""
    path = case.images[len(case.images) // 2]
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _BLOCK, 0) // 2)
        return hashlib.sha256(file.read(_BLOCK)).digest()


def _hash_contents(case: CaseFiles) -> Hashable:
    digest = hashlib.sha256()
    for path in case.images:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.digest()
