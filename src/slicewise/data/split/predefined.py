"""The users' own split: a file, or the folders of the data, names the subset of each case.

It is followed to the letter. A patient in two subsets, by visits or by copies of files, and pictures of one
family in two, are refused or left out of training: nothing that resembles a test case is trained on.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from slicewise.config.schema import SplitSettings
from slicewise.core.errors import SplitError
from slicewise.data.cases import CaseFiles, relative_name
from slicewise.data.split.assignment import SUBSETS, Subset, draw_val
from slicewise.data.split.split_file import parse_subset

_SHOWN: Final = 5
_ENDING: Final = re.compile(r"\.(nii(\.gz)?|[A-Za-z]{2,5})$")
_SUBSET_FOLDER: Final = re.compile(
    r"(?:^|.*[^a-z])(train|training|val|valid|validation|test|testing)(?:data|set|images)?(?:[^a-z].*|$)",
    re.IGNORECASE,
)


class Member(NamedTuple):
    """A case as a split may name it.

    Attributes:
        group: what stays in one subset: the patient, or the family of a picture.
        names: the group, the patient and the case.
        paths: its files and left-out copies of them, below the folder of the data.
        is_picture: whether `paths` are identical pictures.
    """

    source: str
    group: str
    case: str
    names: frozenset[str]
    paths: tuple[PurePosixPath, ...] = ()
    is_picture: bool = False


@dataclass(frozen=True)
class PredefinedSplit:
    """The subset of each group that takes part, and the cases that do not."""

    subsets: dict[str, Subset]
    left_out: dict[str, str]
    """Reason by case that is in no subset."""
    drawn: tuple[Subset, ...]
    """The subsets for which no case was named: train is the rest, val is drawn."""


_Catalogue = dict[str, dict[str, dict[Member, None]]]
"""Cases by name and by place: the path, or a name that stands for itself."""
SubsetsByMember = Mapping[Member, frozenset[Subset]]
"""The subsets in which each case is named; more than one is a conflict."""


def list_members(cases: Iterable[CaseFiles], root: Path) -> list[Member]:
    """Return the cases of a source below `root` as a split may name them."""
    return [
        Member(
            case.key.source,
            case.group,
            case.key.case,
            frozenset((case.group, case.key.patient, case.key.case)),
            tuple(PurePosixPath(relative_name(path, root)) for path in (*case.images, *case.copies)),
            case.unit == "picture",
        )
        for case in cases
    ]


def match_split_file(
    listed: Mapping[str, Subset],
    members: Sequence[Member],
    roots: Mapping[str, Path],
    unusable: Mapping[str, str],
) -> dict[Member, frozenset[Subset]]:
    """Return the subsets that a file names for each case.

    A name is a patient, a case, a family, a file or a folder below the data, also as an absolute path below
    one of the `roots`; `source/name` tells two apart. `unusable` is the fault of each left-out path.

    Raises:
        SplitError: a name fits no case, or several that have nothing in common.
    """
    exact, last = _catalogue(members)
    named_subsets: dict[Member, frozenset[Subset]] = dict.fromkeys(members, frozenset())
    unknown: list[str] = []
    for name, subset in listed.items():
        plain = name.strip().replace("\\", "/").rstrip("/").removeprefix("./")
        for root in roots.values():
            plain = plain.removeprefix(f"{root.absolute().as_posix()}/")
        matches = _require_unambiguous(name, exact.get(plain) or last.get(plain, {}))
        if not matches:
            unknown.append(name)
        for member in matches:
            named_subsets[member] = named_subsets[member].union((subset,))
    if unknown:
        raise SplitError(_explain_unknown(unknown, {*exact, *last}, unusable))
    return named_subsets


def match_names(
    listed: Mapping[str, Subset], source: str, names: Iterable[str]
) -> dict[Member, frozenset[Subset]]:
    """Return the subsets of patients that are known by name alone; other names are another source's."""
    own = {name.removeprefix(f"{source}/"): subset for name, subset in listed.items()}
    return {
        Member(source, name, name, frozenset((name,))): frozenset({own[name]} if name in own else ())
        for name in names
    }


def match_folders(members: Iterable[Member], *, required: bool = True) -> SubsetsByMember:
    """Return for each case the subset that a folder above it is named after.

    Raises:
        SplitError: no folder is named after a subset, though `required`.
    """
    named_subsets: dict[Member, frozenset[Subset]] = {
        member: frozenset(filter(None, map(_subset_of_folder, member.paths))) for member in members
    }
    if required and not any(named_subsets.values()):
        tops = {path.parts[0] for member in named_subsets for path in member.paths if len(path.parts) > 1}
        raise SplitError(
            "split.folders is true, but no folder of the data is called train, val or test (or Training, "
            f"Testing, Validation); there are: {_listed(sorted(tops))}. Rename them, or use split.file"
        )
    return named_subsets


def resolve_split(
    named_subsets: SubsetsByMember, settings: SplitSettings, labels: Mapping[str, str] | None, source: str
) -> PredefinedSplit | None:
    """Return the subsets of one source, or None where none of its cases is named.

    Groups without a name are train and val where none is named for train; else they are an error, or left
    out. Where none is named for val, its share of the train groups is drawn, and of each class in `labels`.

    Raises:
        SplitError: a group is in two subsets, a case in none, or train or test has none.
    """
    if not any(named_subsets.values()):
        return None
    named: dict[str, set[Subset]] = defaultdict(set)
    for member, names in named_subsets.items():
        named[member.group] |= names
    _refuse_conflicts(named_subsets, named, settings, source)
    # A group that is named for test, whatever else it is named for, is tested.
    subsets = {group: max(names, key=SUBSETS.index) for group, names in named.items() if names}
    unlisted = [member for member in named_subsets if not named_subsets[member]]
    if "train" not in subsets.values():
        subsets.update({member.group: "train" for member in unlisted if member.group not in subsets})
    elif unlisted and settings.unlisted == "error":
        raise SplitError(
            f"{_key(settings)}: cases of {source} that are in no subset ({len(unlisted)}): "
            f"{_listed(list(map(_describe_member, unlisted)))}. Name a subset for them, or set "
            "split.unlisted=exclude to leave them out"
        )
    for subset in ("test", "train"):
        if subset not in subsets.values():
            raise SplitError(
                f"the given split names no case of {source} for {subset}; name some, or none of {source} at "
                "all: split.seed then divides it"
            )
    left_out = _left_out(named, named_subsets, subsets)
    named_at_all = set[Subset]().union(*named.values())
    drawn: tuple[Subset, ...] = () if "train" in named_at_all else ("train",)
    if "val" not in named_at_all:
        trained = [group for group, subset in subsets.items() if subset == "train"]
        subsets.update(dict.fromkeys(draw_val(trained, settings, settings.seed, labels), "val"))
        drawn = (*drawn, "val")
    return PredefinedSplit(subsets, left_out, drawn)


def _left_out(
    named: Mapping[str, set[Subset]], named_subsets: SubsetsByMember, subsets: Mapping[str, Subset]
) -> dict[str, str]:
    """Return the reason for each case that is not in the subset of its group."""
    reasons: dict[str, str] = {}
    for member, own in named_subsets.items():
        if member.group not in subsets:
            reasons[member.case] = "in no subset"
        elif named[member.group] and subsets[member.group] not in own:
            listed = " and ".join(sorted(own)) or "no subset"
            reasons[member.case] = f"named for {listed}, but {member.group} is in {subsets[member.group]}"
    return reasons


def _refuse_conflicts(
    named_subsets: SubsetsByMember, named: Mapping[str, set[Subset]], settings: SplitSettings, source: str
) -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for member, subsets in named_subsets.items():
        if subsets and len(named[member.group]) > 1:
            places[member.group].append(f"{' and '.join(sorted(subsets))}: {_describe_member(member)}")
    if places and settings.overlap == "refuse":
        conflicts = [f"{group} ({'; '.join(found[:_SHOWN])})" for group, found in places.items()]
        raise SplitError(
            f"{_key(settings)}: patients or picture families of {source} that are in several subsets, by "
            f"visits or as copies ({len(conflicts)}): {_listed(conflicts)}. Put each into one subset, or set "
            "split.overlap=exclude: a case that resembles a test case is then left out of train and val"
        )


def _catalogue(members: Iterable[Member]) -> tuple[_Catalogue, _Catalogue]:
    """Return the cases by name (patient, case, path or folder from the root), and by the end of a path."""
    exact: _Catalogue = defaultdict(lambda: defaultdict(dict))
    last: _Catalogue = defaultdict(lambda: defaultdict(dict))
    for member in members:
        for name in member.names:
            exact[name][name][member] = None
            exact[f"{member.source}/{name}"][name][member] = None
        for place in (part for path in member.paths for part in (path, *path.parents) if part.name):
            for text in {str(place), _ENDING.sub("", str(place))}:
                exact[text][str(place)][member] = None
                exact[f"{member.source}/{text}"][str(place)][member] = None
            for text in {place.name, _ENDING.sub("", place.name)}:
                last[text][str(place)][member] = None
    return exact, last


def _require_unambiguous(name: str, places: Mapping[str, Mapping[Member, None]]) -> list[Member]:
    """Return the cases at the places that a name fits: those of one source, at one place or in one group.

    Raises:
        SplitError: the name fits several sources, or files or folders of different patients.
    """
    matches = [*dict.fromkeys(member for members in places.values() for member in members)]
    sources = sorted({member.source for member in matches})
    if len(sources) > 1:
        raise SplitError(
            f"split.file: {name!r} is in {' and '.join(sources)}; write {sources[0]}/{name} or the other"
        )
    if len(places) > 1 and len({member.group for member in matches}) > 1:
        raise SplitError(
            f"split.file: {name!r} is the name of {len(places)} files or folders: {_listed(sorted(places))}; "
            "write the path below the folder of the data"
        )
    return matches


def _explain_unknown(names: Sequence[str], known: Iterable[str], unusable: Mapping[str, str]) -> str:
    catalogue = sorted(known)
    described = []
    for name in names[:_SHOWN]:
        place = f"/{name}/"
        ends = {f"{end}/": fault for path, fault in unusable.items() for end in (path, _ENDING.sub("", path))}
        if reason := next((fault for end, fault in ends.items() if place in end), ""):
            hint = f"left out: {reason}"
        else:
            close = get_close_matches(name, catalogue, 3, 0.6)
            hint = f"close: {', '.join(close)}" if close else "nothing close"
        described.append(f"{name} ({hint})")
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"split.file: names that fit no usable case ({len(names)}): {'; '.join(described)}{more}. A name is "
        "that of a patient, a case, a file or a folder below the data; correct them, or take them out"
    )


def _subset_of_folder(path: PurePosixPath) -> Subset | None:
    """Return the subset of the topmost folder named after one; of a case's own folder, the whole name."""
    *above, own = path.parent.parts or ("",)
    for name in above:
        if match := _SUBSET_FOLDER.fullmatch(name):
            return parse_subset(match[1])
    return parse_subset(own)


def _describe_member(member: Member) -> str:
    """Return the case, or the path of a picture, with that of its copies."""
    return " = ".join(map(str, member.paths)) if member.is_picture else member.case


def _key(settings: SplitSettings) -> str:
    return "split.file" if settings.file else "split.folders"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
