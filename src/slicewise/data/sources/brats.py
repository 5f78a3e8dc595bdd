"""BraTS 2018-2023 as unpacked, in any nesting (Menze 2015, Bakas 2017, Baid 2021).

    Brats18_2013_21_1/Brats18_2013_21_1_t1ce.nii.gz          patient, visit _1, modality
    BraTS20_Training_001/BraTS20_Training_001_flair.nii
    BraTS2021_00006/BraTS2021_00006_seg.nii.gz
    BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz       2023: t1n t1c t2w t2f; visit -000
    anat/sub-01_T1w.nii.gz, sub-01_ce-gadolinium_T1w.nii.gz  names of BIDS

Virtual patients (Phantom_00012) are laid out the same way.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from slicewise.core.errors import DataError
from slicewise.core.keys import CaseKey, safe_name
from slicewise.core.labels import MODALITIES, Modality
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.data.sources.tree import ENDINGS, files_below

SUFFIXES: Final = ENDINGS["brats"]
_EXPECTED: Final = (
    "BraTS cases: folders with ..._t1, ..._t1ce, ..._t2, ..._flair (2023: -t1n -t1c -t2w -t2f) and ..._seg "
    "as .nii or .nii.gz"
)
SPELLINGS: Final[Mapping[str, Modality]] = {
    "t1": "t1", "t1n": "t1", "t1w": "t1", "t1ce": "t1ce", "t1gd": "t1ce", "t1c": "t1ce",
    "t2": "t2", "t2w": "t2", "flair": "flair", "t2f": "flair",
}  # fmt: skip
_NAME = re.compile(rf"(?P<case>.+?)[-_](?P<what>{'|'.join(SPELLINGS)}|seg)", re.IGNORECASE)
_CONTRAST = re.compile(r"(?P<case>.+)_ce-[A-Za-z0-9]+")
"""The entity of BIDS for a contrast agent, as in `sub-01_ce-gadolinium_T1w`."""
_ODD_MASK = re.compile(r"(.*[-_. ])?seg[a-z]*", re.IGNORECASE)
_MASK = re.compile(rf"{_ODD_MASK.pattern}|(.*[-_. ])?mask", re.IGNORECASE)
_VISITS = (
    re.compile(r"(?P<patient>brats-[a-z]+-\d{5})-\d{3}", re.IGNORECASE),
    re.compile(r"(?P<patient>brats1\d_.+)_\d+", re.IGNORECASE),
)
_RELEASE = re.compile(r"brats(\d\d|\d{4})_|brats-gli-", re.IGNORECASE)


@dataclass(frozen=True)
class FileName:
    """What the name of a BraTS file says: whose it is, and the modality, or None for the mask."""

    case: str
    modality: Modality | None


def parse_name(name: str) -> FileName | None:
    """Read a file name such as `BraTS20_Training_001_t1ce.nii`; None where it follows no convention."""
    match = _NAME.fullmatch(_stem(name))
    if match is None:
        return None
    modality = SPELLINGS.get(match["what"].lower())
    contrast = _CONTRAST.fullmatch(match["case"]) if modality == "t1" else None
    return FileName(contrast["case"], "t1ce") if contrast else FileName(match["case"], modality)


def patient_of(case: str) -> str:
    """Return the patient of a case: the name without the number of the visit, where it has one."""
    matches = (pattern.fullmatch(case) for pattern in _VISITS)
    return next((match["patient"] for match in matches if match), case)


def discover(root: Path, source: str) -> tuple[list[CaseFiles], list[Problem]]:
    """Find the cases with a mask below `root`, in natural order.

    A case without a mask is left out; one without some modality is kept with that slot empty.

    Raises:
        DataError: there is no folder, no case, or no case with a mask.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in files_below(root, SUFFIXES):
        folders[case_folder(path)].append(path)
    problems: list[Problem] = []
    drafts = [draft for folder, paths in folders.items() for draft in _read_folder(folder, paths, problems)]
    if not drafts:
        raise DataError(f"{root} holds no case; expected {_EXPECTED}")
    cases = [draft.case(source, problems) for draft in _without_repeats(drafts, problems) if draft.masks]
    if not cases:
        raise DataError(
            f"{root} holds {len(drafts)} cases and none has a mask (..._seg.nii), as in validation folders: "
            "choose the training folder"
        )
    return cases, problems


def mixed_releases(root: Path, cases: Iterable[CaseFiles]) -> list[Problem]:
    """Return a warning where the names are those of several releases, which have patients in common."""
    found = (_RELEASE.match(case.key.case) for case in cases)
    prefixes = sorted({match[0].lower(): match[0] for match in found if match}.values())
    what = (
        f"names of several releases ({', '.join(prefixes)}), which have patients in common: a patient whose "
        "files were saved anew is not recognised and may be trained on and tested on; keep one release"
    )
    return [Problem(root, what, "warning")] if len(prefixes) > 1 else []


@dataclass
class _Draft:
    """The files of one case while they are collected."""

    name: str
    folder: Path
    images: dict[Modality, list[Path]]
    masks: list[Path]
    copies: list[Path] = field(default_factory=list)

    def case(self, source: str, problems: list[Problem]) -> CaseFiles:
        missing = [modality for modality in MODALITIES if modality not in self.images]
        if missing:
            problems.append(Problem(self.folder, f"no {', '.join(missing)}: the slot stays empty", "warning"))
        for copies in (*self.images.values(), self.masks):
            problems += [Problem(path, "a second file of its kind, ignored", "note") for path in copies[1:]]
        modalities = tuple(modality for modality in MODALITIES if modality in self.images)
        name = safe_name(self.name)
        # The visit is told from the name as found: a safe name may end in a digest instead.
        patient = safe_name(patient_of(self.name))
        return CaseFiles(
            key=CaseKey(source, patient, name),
            kind="nifti",
            modalities=modalities,
            images=tuple(self.images[modality][0] for modality in modalities),
            masks=tuple(self.masks[:1]),
            label=None,
            group=patient,
            copies=tuple(self.copies),
        )


def _read_folder(folder: Path, paths: Iterable[Path], problems: list[Problem]) -> list[_Draft]:
    """Sort the files of one folder into cases. A folder mostly holds one, and may hold many."""
    drafts: dict[str, _Draft] = {}
    strays: list[Path] = []
    for path in paths:
        name = parse_name(file_name(path))
        if name is None:
            strays.append(path)
            continue
        draft = drafts.setdefault(name.case.lower(), _Draft(name.case, folder, {}, []))
        files = draft.masks if name.modality is None else draft.images.setdefault(name.modality, [])
        files.append(path)
    cases = [draft for draft in drafts.values() if draft.images]
    strays += [mask for draft in drafts.values() if not draft.images for mask in draft.masks]
    _adopt_masks(cases, strays, problems)
    return cases


def _adopt_masks(cases: list[_Draft], strays: list[Path], problems: list[Problem]) -> None:
    """Give the only case of a folder the mask with another name, as in BraTS20_Training_355."""
    for path in strays:
        is_mask = _ODD_MASK.fullmatch(_stem(file_name(path))) is not None
        if is_mask and len(cases) == 1 and not cases[0].masks:
            cases[0].masks.append(path)
            problems.append(Problem(path, "named unlike its case, taken as its mask", "warning"))
        else:
            what = "a mask without images, ignored" if is_mask else "neither a modality nor a mask, ignored"
            problems.append(Problem(path, what, "note"))


def _without_repeats(drafts: list[_Draft], problems: list[Problem]) -> list[_Draft]:
    """Keep one folder per case, one with a mask where there is one, and report what is left out."""
    kept: dict[str, _Draft] = {}
    for draft in sorted(drafts, key=lambda draft: not draft.masks):
        first = kept.setdefault(safe_name(draft.name).lower(), draft)
        if first is not draft:
            first.copies += next(iter(draft.images.values()))[:1]
            problems.append(Problem(draft.folder, f"the case {draft.name} again, ignored", "note"))
        elif not draft.masks:
            problems.append(Problem(draft.folder, "no mask (..._seg.nii)"))
    return [draft for draft in drafts if kept[safe_name(draft.name).lower()] is draft]


def _stem(name: str) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE)


def is_mask_name(name: str) -> bool:
    """Whether a file name is that of a mask, ours (`..._mask`) included."""
    return _MASK.fullmatch(_stem(name)) is not None


def _is_wrapper(folder: Path) -> bool:
    """Some mirrors unpack x_flair.nii.gz to a folder of that name that holds one file."""
    return folder.name.lower().endswith(SUFFIXES)


def case_folder(path: Path) -> Path:
    """Return the folder of a file's case: the one it lies in, but for a wrapper."""
    return path.parent.parent if _is_wrapper(path.parent) else path.parent


def file_name(path: Path) -> str:
    """Return the name that tells what a file is: its own, but for one in a wrapper."""
    return path.parent.name if _is_wrapper(path.parent) else path.name
