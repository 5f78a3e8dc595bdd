"""From the files of a folder to its cases: which belong together, and which of several is taken."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from slicewise.core.labels import MODALITIES, Modality
from slicewise.data.names import (
    FileName,
    case_of_folder,
    file_name,
    home_of,
    patient_of,
    patient_of_folder,
    read_name,
    stem_of,
)
from slicewise.data.problems import Problem

_RENAME: Final = "rename it to CASE_t1, CASE_t1ce, CASE_t2, CASE_flair or CASE_seg"
_SERIES_DIGITS: Final = 3
_AUTOMATIC: Final = ("auto", "pred", "approx", "glistrboost")
_BY_HAND: Final = {"manual", "manuallycorrected", "corrected", "edited"}


@dataclass(frozen=True)
class Found:
    """A file and what its name says."""

    path: Path
    name: FileName


@dataclass
class Draft:
    """The files of one case: `images` by modality, and what may be its mask, in natural order."""

    name: str
    patient: str
    home: Path
    by_folder: bool = False
    """Whether the name is that of the folder."""
    images: dict[Modality, list[Found]] = field(default_factory=dict)
    masks: list[Found] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)
    """Images of left-out folders with the same case."""

    def add(self, found: Found) -> None:
        kind = found.name.kind
        if kind == "mask":
            self.masks.append(found)
        elif kind in MODALITIES:
            self.images.setdefault(kind, []).append(found)

    @property
    def kinds(self) -> set[str]:
        return {*self.images, *(["mask"] if self.masks else [])}


@dataclass
class Gathered:
    """Cases, and the files that belong to none: their names say nothing, another image, or several things."""

    drafts: list[Draft]
    silent: list[Path]
    others: list[Path]
    problems: list[Problem]


def gather(
    paths: Iterable[Path],
    root: Path | None = None,
    *,
    mask_name: str | None = None,
    unnamed: Modality | None = None,
) -> Gathered:
    """Sort volumes and masks into cases by their names.

    Args:
        paths: files, in natural order.
        root: no folder above it is looked at for what a case is called.
        mask_name: a pattern such as `*_tumor*` of the file names that are masks; no other file then is one.
        unnamed: what a volume shows whose name does not say it.

    Returns:
        the cases; a name that may be read in two ways is a problem, and its file belongs to no case.
    """
    gathered = Gathered([], [], [], [])
    drafts: dict[tuple[Path, str], list[Found]] = defaultdict(list)
    for path in paths:
        found = Found(path, _read(path, mask_name, unnamed))
        if found.name.candidates:
            gathered.problems.append(_ambiguous(found))
        elif found.name.kind is None:
            gathered.silent.append(path)
        elif found.name.kind == "other":
            gathered.others.append(path)
        else:
            home = home_of(path, found.name, root)
            drafts[home, (found.name.case or case_of_folder(home)).lower()].append(found)
    for (home, _), files in drafts.items():
        for number, part in _by_number(files).items():
            if draft := _draft(home, root, number, part, gathered.problems):
                gathered.drafts.append(draft)
    gathered.drafts = _series(_merged(gathered.drafts), root, gathered.problems)
    _tell_folders_apart(gathered.drafts)
    gathered.problems += _scattered(gathered.drafts)
    return gathered


def choose_images(draft: Draft) -> tuple[dict[Modality, Path], list[Problem]]:
    """Return one file of each modality: of the variant (`_bet`, `_bias`) that most modalities have.

    Of variants that as many have, the one with the fewest suffixes is taken.
    """
    common = Counter(
        suffixes for files in draft.images.values() for suffixes in {found.name.suffixes for found in files}
    )
    chosen: dict[Modality, Path] = {}
    problems: list[Problem] = []
    for modality in MODALITIES:
        files = draft.images.get(modality, [])
        ranks = [(-common[f.name.suffixes], len(f.name.suffixes), len(f.name.number)) for f in files]
        if files:
            best = ranks.index(min(ranks))
            chosen[modality] = files[best].path
            problems += [
                _not_taken(found, files[best], modality, as_good=rank == ranks[best])
                for found, rank in zip(files, ranks, strict=True)
                if found is not files[best]
            ]
    return chosen, problems


def choose_mask(draft: Draft) -> tuple[Path | None, list[Problem]]:
    """Return the mask of a case: one whose name speaks of a tumour, and that is drawn rather than predicted.

    Where several are as good, none is returned and the problem is an error.
    """
    if not draft.masks:
        return None, []
    ranks = [_mask_rank(found.name) for found in draft.masks]
    best = [found for found, rank in zip(draft.masks, ranks, strict=True) if rank == max(ranks)]
    taken, others = best[0], [found for found in draft.masks if found not in best]
    if len({_stem(found) for found in best}) > 1:
        names = ", ".join(found.path.name for found in best)
        return None, [
            Problem(
                draft.home,
                f"{draft.name}: several files may be its mask ({names}); say which with data.volumes.mask, "
                "such as data.volumes.mask='*_tumor_seg*', or rename it so that it alone speaks of a tumour",
            )
        ]
    problems = [Problem(found.path, "a second file of its kind, ignored", "note") for found in best[1:]]
    problems += [Problem(found.path, f"a mask, not used: {taken.path.name} is", "note") for found in others]
    if taken.name.of_modality and not taken.name.about_tumour:
        what = "taken as the mask, though named after one modality, as masks of the brain are; look at it"
        problems.append(Problem(taken.path, what, "warning"))
    return taken.path, problems


def _read(path: Path, mask_name: str | None, unnamed: Modality | None) -> FileName:
    name = read_name(path)
    if mask_name is not None:
        if any(fnmatchcase(own.lower(), mask_name.lower()) for own in (path.name, file_name(path))):
            return replace(name, kind="mask", candidates=(), sure=True, about_tumour=True)
        name = replace(name, kind="other") if name.kind == "mask" else name
    if unnamed in name.candidates:
        return replace(name, kind=unnamed, candidates=())
    if unnamed and (name.kind is None or (not name.sure and (name.kind == "mask" or not name.case))):
        return FileName(stem_of(file_name(path)), unnamed)
    return name


def _ambiguous(found: Found) -> Problem:
    what = f"its name may say {' or '.join(found.name.candidates)}, so it is not used; {_RENAME}"
    return Problem(found.path, what)


def _by_number(files: Sequence[Found]) -> dict[str, list[Found]]:
    """Divide files by the number that ends their names, where that tells several of one modality apart."""
    numbers: dict[str, set[str]] = defaultdict(set)
    for found in files:
        if found.name.kind in MODALITIES and found.name.number:
            numbers[str(found.name.kind)].add(found.name.number)
    if all(len(those) < 2 for those in numbers.values()):
        return {"": list(files)}
    divided: dict[str, list[Found]] = defaultdict(list)
    for found in files:
        divided[found.name.number].append(found)
    return divided


def _draft(
    home: Path, root: Path | None, number: str, files: Sequence[Found], problems: list[Problem]
) -> Draft | None:
    case = files[0].name.case
    stem = "_".join(filter(None, (case, number))) if case or number else case_of_folder(home)
    patient = patient_of(stem) if case or number else patient_of_folder(home, root)
    draft = Draft(stem, patient, home, by_folder=not (case or number))
    certain = len({found.name.kind for found in files}) > 1
    for found in files:
        if certain or found.name.sure:
            draft.add(found)
        elif found.name.kind == "mask" or not case:
            shown = "a mask" if found.name.kind == "mask" else str(found.name.kind)
            what = f"its name may say {shown}, or be that of a patient, so it is not used; {_RENAME}"
            problems.append(Problem(found.path, what))
        else:
            what = f"read as {found.name.kind} of {stem}; if these words name the patient, {_RENAME}"
            problems.append(Problem(found.path, what, "warning"))
            draft.add(found)
    return draft if draft.kinds else None


def _merged(drafts: Sequence[Draft]) -> list[Draft]:
    """Put together what lies in folders beside or in each other, has one name, and shows nothing twice."""
    merged: dict[str, list[Draft]] = defaultdict(list)
    for draft in drafts:
        same = merged[draft.name.lower()]
        whole = next((other for other in same if _belong_together(other, draft)), None)
        if whole is None:
            same.append(draft)
        else:
            whole.images.update(draft.images)
            whole.masks += draft.masks
            whole.home = Path(os.path.commonpath((whole.home, draft.home)))
    return [draft for same in merged.values() for draft in same]


def _belong_together(one: Draft, other: Draft) -> bool:
    if one.by_folder or other.by_folder or one.kinds & other.kinds:
        return False
    return Path(os.path.commonpath((one.home, other.home))) in {one.home, other.home, one.home.parent}


def _series(drafts: list[Draft], root: Path | None, problems: list[Problem]) -> list[Draft]:
    """Put together the files of a folder that begin with the number of their series: `5_t1`, `7_flair`."""
    numbered: dict[Path, list[Draft]] = defaultdict(list)
    for draft in drafts:
        if draft.name.isdecimal() and len(draft.name) <= _SERIES_DIGITS:
            numbered[draft.home].append(draft)
    for home, parts in numbered.items():
        shown = [kind for part in parts for kind in part.kinds]
        if len(parts) < 2 or len(parts) != len(shown) or len({*shown}) < len(shown):
            continue
        whole = Draft(case_of_folder(home), patient_of_folder(home, root), home, by_folder=True)
        for part in parts:
            whole.images.update(part.images)
            whole.masks += part.masks
        drafts = [draft for draft in drafts if draft not in parts] + [whole]
        what = f"taken as one case, {whole.name}: the numbers before the modalities differ in each file"
        problems.append(Problem(home, what, "warning"))
    return drafts


def _tell_folders_apart(drafts: Sequence[Draft]) -> None:
    """Where cases are called after folders of one name, put the names of the folders above before it."""
    named = [draft for draft in drafts if draft.by_folder]
    for depth in range(max((len(draft.home.absolute().parents) for draft in named), default=0)):
        counts = Counter(draft.name.lower() for draft in named)
        for draft in named:
            if counts[draft.name.lower()] > 1:
                _name_after_parents(draft, depth + 1)


def _name_after_parents(draft: Draft, depth: int) -> None:
    is_patient = draft.patient == patient_of(draft.name)
    parts = draft.home.absolute().parts[1:]
    draft.name = "_".join(parts[-depth - 1 :])
    draft.patient = patient_of(draft.name) if is_patient else draft.patient


def _scattered(drafts: Sequence[Draft]) -> Iterable[Problem]:
    """Warn of a folder whose files are cases of one modality each, every one of another modality."""
    by_home: dict[Path, list[Draft]] = defaultdict(list)
    for draft in drafts:
        if draft.images:
            by_home[draft.home].append(draft)
    for home, group in by_home.items():
        shown = [modality for draft in group for modality in draft.images]
        if len(group) > 1 and len(shown) == len(group) == len({*shown}):
            names = ", ".join(draft.name for draft in group)
            what = (
                f"taken as {len(group)} cases ({names}), each of one modality; if they are one patient, name "
                "the files alike: CASE_t1, CASE_t1ce, CASE_t2, CASE_flair"
            )
            yield Problem(home, what, "warning")


def _not_taken(found: Found, taken: Found, modality: Modality, *, as_good: bool) -> Problem:
    if _stem(found) == _stem(taken):
        return Problem(found.path, "a second file of its kind, ignored", "note")
    if as_good:
        what = f"as good a {modality} as {taken.path.name}, which is used; take out one of them"
        return Problem(found.path, what, "warning")
    return Problem(found.path, f"another variant of {modality}: {taken.path.name} is used", "note")


def _mask_rank(name: FileName) -> tuple[bool, bool, bool]:
    by_hand = _BY_HAND & {*name.suffixes}
    automatic = any(suffix.startswith(_AUTOMATIC) for suffix in name.suffixes)
    return name.about_tumour, bool(by_hand or not automatic), not name.of_modality


def _stem(found: Found) -> str:
    return stem_of(file_name(found.path)).lower()
