"""Patients that are in several sources: an image of one must not train a model that is tested on the other.

The case of the first source is kept; sources with the role train_only come last. Within a source, its kind
has decided already.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from slicewise.config.schema import SourceSettings
from slicewise.core.console import progress
from slicewise.data.cases import CaseFiles
from slicewise.data.duplicates.exact import drop_copies
from slicewise.data.problems import Problem


def drop_repeats(
    cases: Sequence[CaseFiles], sources: Sequence[SourceSettings]
) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the cases without those that an earlier source has, and a note for each that is left out.

    Volumes are compared byte for byte. Pictures are, too, by their pixels and perceptual hashes: a family
    of near-identical ones keeps the members of one source.
    """
    order = {s.name: (s.role == "train_only", place) for place, s in enumerate(sources)}
    first_to_last = sorted(cases, key=lambda case: order[case.key.source])
    compared = {s.name for s in sources if getattr(s, "duplicates", "group") == "group"}
    volumes = [case for case in first_to_last if case.unit != "picture"]
    pictures = [case for case in first_to_last if case.unit == "picture" and case.key.source in compared]
    problems: list[Problem] = []
    for alike, drop in ((volumes, _drop_volumes), (pictures, _drop_pictures)):
        if len({case.key.source for case in alike}) > 1:
            problems += drop(alike)
    left_out = {problem.path for problem in problems}
    return [case for case in cases if case.images[0] not in left_out], problems


def _drop_volumes(cases: Sequence[CaseFiles]) -> list[Problem]:
    kept = {case.key for case in drop_copies(cases)[0]}
    what = "the same images, byte for byte, as a case of another source, which is kept"
    return [Problem(case.images[0], what, "note") for case in cases if case.key not in kept]


def _drop_pictures(cases: Sequence[CaseFiles]) -> list[Problem]:
    from slicewise.data.duplicates.perceptual import group_near_duplicates, hash_picture

    with ThreadPoolExecutor() as pool:
        hashed = pool.map(hash_picture, [case.images[0] for case in cases])
        hashes = list(progress(hashed, desc="Comparing sources", total=len(cases), unit="picture"))
    problems = []
    for family in group_near_duplicates(hashes):
        first = cases[min(family)].key.source
        what = f"almost the same as a picture of {first}, which is kept"
        others = [cases[index] for index in family if cases[index].key.source != first]
        problems += [Problem(case.images[0], what, "note") for case in others]
    return problems
