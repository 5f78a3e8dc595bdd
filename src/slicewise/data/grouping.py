"""From the files of a folder to its cases: which belong together, and which of several is taken."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from slicewise.data.filenames import (
    ParsedName,
    case_from_folder,
    effective_name,
    find_case_folder,
    parse_filename,
    parse_patient,
    patient_from_folder,
    strip_suffix,
)
from slicewise.data.problems import Problem
from slicewise.domain.labels import MODALITIES, Modality

_RENAME: Final = "rename it to CASE_t1, CASE_t1ce, CASE_t2, CASE_flair or CASE_seg"
_SERIES_DIGITS: Final = 3
_AUTOMATIC: Final = ("auto", "pred", "approx", "glistrboost")
_BY_HAND: Final = {"manual", "manuallycorrected", "corrected", "edited"}


@dataclass(frozen=True)
class NamedFile:
    """A file and what its name says."""

    path: Path
    name: ParsedName


@dataclass
class CaseDraft:
    """The files of one case: `images` by modality, and what may be its mask, in natural order."""

    name: str
    patient: str
    folder: Path
    named_by_folder: bool = False
    """Whether the name is that of the folder."""
    images: dict[Modality, list[NamedFile]] = field(default_factory=dict)
    masks: list[NamedFile] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)
    """Images of left-out folders with the same case."""

    def add(self, file: NamedFile) -> None:
        kind = file.name.kind
        if kind == "mask":
            self.masks.append(file)
        elif kind in MODALITIES:
            self.images.setdefault(kind, []).append(file)

    @property
    def kinds(self) -> set[str]:
        return {*self.images, *(["mask"] if self.masks else [])}


@dataclass
class GroupedFiles:
    """Cases, and the files that belong to none: their names say nothing, another image, or several things."""

    drafts: list[CaseDraft]
    unidentified: list[Path]
    others: list[Path]
    problems: list[Problem]


def group_files(
    paths: Iterable[Path],
    root: Path | None = None,
    *,
    mask_name: str | None = None,
    unnamed: Modality | None = None,
) -> GroupedFiles:
    """Sort volumes and masks into cases by their names.

    Args:
        paths: files, in natural order.
        root: no folder above it is looked at for what a case is called.
        mask_name: a pattern such as `*_tumor*` of the file names that are masks; no other file then is one.
        unnamed: what a volume shows whose name does not say it.

    Returns:
        the cases; a name that may be read in two ways is a problem, and its file belongs to no case.
    """
    gathered = GroupedFiles([], [], [], [])
    drafts: dict[tuple[Path, str], list[NamedFile]] = defaultdict(list)
    for path in paths:
        file = NamedFile(path, _parse(path, mask_name, unnamed))
        if file.name.candidates:
            gathered.problems.append(_ambiguous(file))
        elif file.name.kind is None:
            gathered.unidentified.append(path)
        elif file.name.kind == "other":
            gathered.others.append(path)
        else:
            folder = find_case_folder(path, file.name, root)
            drafts[folder, (file.name.case or case_from_folder(folder)).lower()].append(file)
    for (folder, _), files in drafts.items():
        for number, part in _divide_by_number(files).items():
            if draft := _draft(folder, root, number, part, gathered.problems):
                gathered.drafts.append(draft)
    gathered.drafts = _merge_series(_merge_folders(gathered.drafts), root, gathered.problems)
    _disambiguate_names(gathered.drafts)
    gathered.problems += _warn_scattered(gathered.drafts)
    return gathered


def select_images(draft: CaseDraft) -> tuple[dict[Modality, Path], list[Problem]]:
    """Return one file of each modality: of the variant (`_bet`, `_bias`) that most modalities have.

    Of variants that as many have, the one with the fewest suffixes is taken.
    """
    common = Counter(
        suffixes for files in draft.images.values() for suffixes in {file.name.suffixes for file in files}
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
                _unused_image(file, files[best], modality, as_good=rank == ranks[best])
                for file, rank in zip(files, ranks, strict=True)
                if file is not files[best]
            ]
    return chosen, problems


def select_mask(draft: CaseDraft) -> tuple[Path | None, list[Problem]]:
    """Return the mask of a case: one whose name speaks of a tumour, and that is drawn rather than predicted.

    Where several are as good, none is returned and the problem is an error.
    """
    if not draft.masks:
        return None, []
    ranks = [_mask_rank(file.name) for file in draft.masks]
    best = [file for file, rank in zip(draft.masks, ranks, strict=True) if rank == max(ranks)]
    taken, others = best[0], [file for file in draft.masks if file not in best]
    if len({_stem(file) for file in best}) > 1:
        names = ", ".join(file.path.name for file in best)
        return None, [
            Problem(
                draft.folder,
                f"{draft.name}: several files may be its mask ({names}); say which with data.volumes.mask, "
                "such as data.volumes.mask='*_tumor_seg*', or rename it so that it alone speaks of a tumour",
            )
        ]
    problems = [Problem(file.path, "a second file of its kind, ignored", "note") for file in best[1:]]
    problems += [Problem(file.path, f"a mask, not used: {taken.path.name} is", "note") for file in others]
    if taken.name.of_modality and not taken.name.about_tumour:
        what = "taken as the mask, though named after one modality, as masks of the brain are; look at it"
        problems.append(Problem(taken.path, what, "warning"))
    return taken.path, problems


def _parse(path: Path, mask_name: str | None, unnamed: Modality | None) -> ParsedName:
    name = parse_filename(path)
    if mask_name is not None:
        if any(fnmatchcase(own.lower(), mask_name.lower()) for own in (path.name, effective_name(path))):
            return replace(name, kind="mask", candidates=(), sure=True, about_tumour=True)
        name = replace(name, kind="other") if name.kind == "mask" else name
    if unnamed in name.candidates:
        return replace(name, kind=unnamed, candidates=())
    if unnamed and (name.kind is None or (not name.sure and (name.kind == "mask" or not name.case))):
        return ParsedName(strip_suffix(effective_name(path)), unnamed)
    return name


def _ambiguous(file: NamedFile) -> Problem:
    what = f"its name may say {' or '.join(file.name.candidates)}, so it is not used; {_RENAME}"
    return Problem(file.path, what)


def _divide_by_number(files: Sequence[NamedFile]) -> dict[str, list[NamedFile]]:
    """Divide files by the number that ends their names, where that tells several of one modality apart."""
    numbers: dict[str, set[str]] = defaultdict(set)
    for file in files:
        if file.name.kind in MODALITIES and file.name.number:
            numbers[str(file.name.kind)].add(file.name.number)
    if all(len(those) < 2 for those in numbers.values()):
        return {"": list(files)}
    divided: dict[str, list[NamedFile]] = defaultdict(list)
    for file in files:
        divided[file.name.number].append(file)
    return divided


def _draft(
    folder: Path, root: Path | None, number: str, files: Sequence[NamedFile], problems: list[Problem]
) -> CaseDraft | None:
    case = files[0].name.case
    stem = "_".join(filter(None, (case, number))) if case or number else case_from_folder(folder)
    patient = parse_patient(stem) if case or number else patient_from_folder(folder, root)
    draft = CaseDraft(stem, patient, folder, named_by_folder=not (case or number))
    certain = len({file.name.kind for file in files}) > 1
    for file in files:
        if certain or file.name.sure:
            draft.add(file)
        elif file.name.kind == "mask" or not case:
            shown = "a mask" if file.name.kind == "mask" else str(file.name.kind)
            what = f"its name may say {shown}, or be that of a patient, so it is not used; {_RENAME}"
            problems.append(Problem(file.path, what))
        else:
            what = f"read as {file.name.kind} of {stem}; if these words name the patient, {_RENAME}"
            problems.append(Problem(file.path, what, "warning"))
            draft.add(file)
    return draft if draft.kinds else None


def _merge_folders(drafts: Sequence[CaseDraft]) -> list[CaseDraft]:
    """Put together what lies in folders beside or in each other, has one name, and shows nothing twice."""
    merged: dict[str, list[CaseDraft]] = defaultdict(list)
    for draft in drafts:
        same = merged[draft.name.lower()]
        whole = next((other for other in same if _can_merge(other, draft)), None)
        if whole is None:
            same.append(draft)
        else:
            whole.images.update(draft.images)
            whole.masks += draft.masks
            whole.folder = Path(os.path.commonpath((whole.folder, draft.folder)))
    return [draft for same in merged.values() for draft in same]


def _can_merge(one: CaseDraft, other: CaseDraft) -> bool:
    if one.named_by_folder or other.named_by_folder or one.kinds & other.kinds:
        return False
    return Path(os.path.commonpath((one.folder, other.folder))) in {
        one.folder,
        other.folder,
        one.folder.parent,
    }


def _merge_series(drafts: list[CaseDraft], root: Path | None, problems: list[Problem]) -> list[CaseDraft]:
    """Put together the files of a folder that begin with the number of their series: `5_t1`, `7_flair`."""
    numbered: dict[Path, list[CaseDraft]] = defaultdict(list)
    for draft in drafts:
        if draft.name.isdecimal() and len(draft.name) <= _SERIES_DIGITS:
            numbered[draft.folder].append(draft)
    for folder, parts in numbered.items():
        shown = [kind for part in parts for kind in part.kinds]
        if len(parts) < 2 or len(parts) != len(shown) or len({*shown}) < len(shown):
            continue
        whole = CaseDraft(
            case_from_folder(folder), patient_from_folder(folder, root), folder, named_by_folder=True
        )
        for part in parts:
            whole.images.update(part.images)
            whole.masks += part.masks
        drafts = [draft for draft in drafts if draft not in parts] + [whole]
        what = f"taken as one case, {whole.name}: the numbers before the modalities differ in each file"
        problems.append(Problem(folder, what, "warning"))
    return drafts


def _disambiguate_names(drafts: Sequence[CaseDraft]) -> None:
    """Where cases are called after folders of one name, put the names of the folders above before it."""
    named = [draft for draft in drafts if draft.named_by_folder]
    for depth in range(max((len(draft.folder.absolute().parents) for draft in named), default=0)):
        counts = Counter(draft.name.lower() for draft in named)
        for draft in named:
            if counts[draft.name.lower()] > 1:
                _name_after_parents(draft, depth + 1)


def _name_after_parents(draft: CaseDraft, depth: int) -> None:
    is_patient = draft.patient == parse_patient(draft.name)
    parts = draft.folder.absolute().parts[1:]
    draft.name = "_".join(parts[-depth - 1 :])
    draft.patient = parse_patient(draft.name) if is_patient else draft.patient


def _warn_scattered(drafts: Sequence[CaseDraft]) -> Iterable[Problem]:
    """Warn of a folder whose files are cases of one modality each, every one of another modality."""
    drafts_by_folder: dict[Path, list[CaseDraft]] = defaultdict(list)
    for draft in drafts:
        if draft.images:
            drafts_by_folder[draft.folder].append(draft)
    for folder, group in drafts_by_folder.items():
        shown = [modality for draft in group for modality in draft.images]
        if len(group) > 1 and len(shown) == len(group) == len({*shown}):
            names = ", ".join(draft.name for draft in group)
            what = (
                f"taken as {len(group)} cases ({names}), each of one modality; if they are one patient, name "
                "the files alike: CASE_t1, CASE_t1ce, CASE_t2, CASE_flair"
            )
            yield Problem(folder, what, "warning")


def _unused_image(file: NamedFile, taken: NamedFile, modality: Modality, *, as_good: bool) -> Problem:
    if _stem(file) == _stem(taken):
        return Problem(file.path, "a second file of its kind, ignored", "note")
    if as_good:
        what = f"as good a {modality} as {taken.path.name}, which is used; take out one of them"
        return Problem(file.path, what, "warning")
    return Problem(file.path, f"another variant of {modality}: {taken.path.name} is used", "note")


def _mask_rank(name: ParsedName) -> tuple[bool, bool, bool]:
    by_hand = _BY_HAND & {*name.suffixes}
    automatic = any(suffix.startswith(_AUTOMATIC) for suffix in name.suffixes)
    return name.about_tumour, bool(by_hand or not automatic), not name.of_modality


def _stem(file: NamedFile) -> str:
    return strip_suffix(effective_name(file.path)).lower()
