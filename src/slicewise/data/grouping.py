"""Groups the files of a folder into cases, and selects one file of several for a modality or mask."""

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
    """A file and its parsed name."""

    path: Path
    name: ParsedName


@dataclass
class CaseDraft:
    """The files of one case: `images` by modality, and candidates for its mask, in natural order."""

    name: str
    patient: str
    folder: Path
    named_by_folder: bool = False
    """Whether the name is that of the folder."""
    images: dict[str, list[NamedFile]] = field(default_factory=dict)
    masks: list[NamedFile] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)
    """Images of left-out folders with the same case."""

    def add(self, file: NamedFile) -> None:
        kind = file.name.kind
        if kind == "mask":
            self.masks.append(file)
        elif kind not in (None, "other"):
            self.images.setdefault(kind, []).append(file)

    @property
    def kinds(self) -> set[str]:
        return {*self.images, *(["mask"] if self.masks else [])}


@dataclass
class GroupedFiles:
    """Cases, and the files of none: unidentified, other images, or ambiguous (`problems`)."""

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
    """Return volumes and masks as cases, by their names; an ambiguous name is a problem.

    Args:
        paths: in natural order.
        root: the names of folders above it are not used.
        mask_name: a pattern of the names of masks, such as `*_tumor*`; no other file then is one.
        unnamed: the modality of a volume whose name does not tell it.
    """
    grouped = GroupedFiles([], [], [], [])
    drafts: dict[tuple[Path, str], list[NamedFile]] = defaultdict(list)
    for path in paths:
        file = NamedFile(path, _parse(path, mask_name, unnamed))
        if file.name.candidates:
            what = f"its name may say {' or '.join(file.name.candidates)}, so it is not used; {_RENAME}"
            grouped.problems.append(Problem(path, what))
        elif file.name.kind is None:
            grouped.unidentified.append(path)
        elif file.name.kind == "other":
            grouped.others.append(path)
        else:
            folder = find_case_folder(path, file.name, root)
            drafts[folder, (file.name.case or case_from_folder(folder)).lower()].append(file)
    for (folder, _), files in drafts.items():
        for number, part in _divide_by_number(files).items():
            if draft := _draft(folder, root, number, part, grouped.problems):
                grouped.drafts.append(draft)
    grouped.drafts = _merge_series(_merge_folders(grouped.drafts), root, grouped.problems)
    _disambiguate_names(grouped.drafts)
    grouped.problems += _warn_scattered(grouped.drafts)
    return grouped


def select_images(draft: CaseDraft) -> tuple[dict[str, Path], list[Problem]]:
    """Return one file of each modality: of the variant (`_bet`, `_bias`) that most modalities have.

    Of equally frequent variants, the one with the fewest suffixes is taken.
    """
    common = Counter(
        suffixes for files in draft.images.values() for suffixes in {file.name.suffixes for file in files}
    )
    chosen: dict[str, Path] = {}
    problems: list[Problem] = []
    for modality in filter(draft.images.get, dict.fromkeys([*MODALITIES, *draft.images])):
        files = draft.images[modality]
        ranks = [(-common[f.name.suffixes], len(f.name.suffixes), len(f.name.number)) for f in files]
        best = files[ranks.index(min(ranks))]
        chosen[modality] = best.path
        for file, rank in zip(files, ranks, strict=True):
            if file is best:
                continue
            if _stem(file) == _stem(best):
                problems.append(Problem(file.path, "a second file of its kind, ignored", "note"))
            elif rank == min(ranks):
                what = f"as good a {modality} as {best.path.name}, which is used; take out one of them"
                problems.append(Problem(file.path, what, "warning"))
            else:
                what = f"another variant of {modality}: {best.path.name} is used"
                problems.append(Problem(file.path, what, "note"))
    return chosen, problems


def select_mask(draft: CaseDraft) -> tuple[Path | None, list[Problem]]:
    """Return the mask of a case: preferably one named after a tumour, and drawn rather than predicted.

    Where several are equally good, none is returned and the problem is an error.
    """
    if not draft.masks:
        return None, []
    ranks = [
        (
            file.name.about_tumour,
            bool(_BY_HAND & {*file.name.suffixes})
            or not any(suffix.startswith(_AUTOMATIC) for suffix in file.name.suffixes),
            not file.name.of_modality,
        )
        for file in draft.masks
    ]
    best = [file for file, rank in zip(draft.masks, ranks, strict=True) if rank == max(ranks)]
    taken, others = best[0], [file for file in draft.masks if file not in best]
    if len({_stem(file) for file in best}) > 1:
        names = ", ".join(file.path.name for file in best)
        what = (
            f"{draft.name}: several files may be its mask ({names}); choose one with data.sources."
            "volumes.mask, such as '*_tumor_seg*', or rename it so that only it names a tumour"
        )
        return None, [Problem(draft.folder, what)]
    problems = [Problem(file.path, "a second file of its kind, ignored", "note") for file in best[1:]]
    problems += [Problem(file.path, f"a mask, not used: {taken.path.name} is", "note") for file in others]
    if taken.name.of_modality and not taken.name.about_tumour:
        what = "taken as the mask, though named after one modality, as masks of the brain are; please check"
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


def _divide_by_number(files: Sequence[NamedFile]) -> dict[str, list[NamedFile]]:
    """Return files by the number that ends their names, where several of one modality have different ones."""
    numbers: dict[str, set[str]] = defaultdict(set)
    for file in files:
        if file.name.kind in MODALITIES and file.name.number:
            numbers[str(file.name.kind)].add(file.name.number)
    if all(len(distinct) < 2 for distinct in numbers.values()):
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
    """Merge cases of one name in folders beside or in each other that have no modality in common."""
    merged: dict[str, list[CaseDraft]] = defaultdict(list)
    for draft in drafts:
        same = merged[draft.name.lower()]
        for other in same:
            common = Path(os.path.commonpath((other.folder, draft.folder)))
            is_near = common in {other.folder, draft.folder, other.folder.parent}
            if is_near and not (other.named_by_folder or draft.named_by_folder or other.kinds & draft.kinds):
                other.images.update(draft.images)
                other.masks += draft.masks
                other.folder = common
                break
        else:
            same.append(draft)
    return [draft for same in merged.values() for draft in same]


def _merge_series(drafts: list[CaseDraft], root: Path | None, problems: list[Problem]) -> list[CaseDraft]:
    """Merge the files of a folder whose names begin with a series number: `5_t1`, `7_flair`."""
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
    """Prefix the names of parent folders where cases are named after folders of the same name."""
    named = [draft for draft in drafts if draft.named_by_folder]
    for depth in range(max((len(draft.folder.absolute().parents) for draft in named), default=0)):
        counts = Counter(draft.name.lower() for draft in named)
        for draft in named:
            if counts[draft.name.lower()] > 1:
                is_patient = draft.patient == parse_patient(draft.name)
                draft.name = "_".join(draft.folder.absolute().parts[1:][-depth - 2 :])
                draft.patient = parse_patient(draft.name) if is_patient else draft.patient


def _warn_scattered(drafts: Sequence[CaseDraft]) -> Iterable[Problem]:
    """Yield a warning for a folder whose files are cases of one modality each, all different."""
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


def _stem(file: NamedFile) -> str:
    return strip_suffix(effective_name(file.path)).lower()
