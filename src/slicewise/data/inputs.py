"""What people hand over to be examined: files and folders, with no label and no split behind them.

    a patient's folder as in BraTS, or one of many     one case per patient, its modalities by name
    a folder with t1.nii.gz, flair.nii.gz, ...         one case, named by the folder
    scan.nii.gz                                        one case of one modality
    a folder of kaggle_3m                              one case, a slice per TIFF
    picture.jpg, or a folder of pictures               one case per picture

A mask that lies beside the images is passed over: what is predicted must not know it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from slicewise.core.keys import CaseKey, safe_name
from slicewise.core.labels import MODALITIES, Modality
from slicewise.data.cases import CaseFiles, CaseKind
from slicewise.data.file_kinds import claims_picture, why_passed_over
from slicewise.data.modality_words import guess_modality, names_modality_alone
from slicewise.data.problems import Problem
from slicewise.data.sources import brats, lgg
from slicewise.data.sources.tree import divided_below, passed_over

SOURCE: Final = "input"
_READABLE: Final = "NIfTI volumes (.nii, .nii.gz), slices of kaggle_3m, or pictures (JPEG, PNG, TIFF, ...)"


@dataclass(frozen=True)
class Unnamed:
    """What a file that does not say it shows: the modality of a volume, and the slot of a picture."""

    volume: Modality | None
    picture: Modality


def find_inputs(paths: Sequence[Path], unnamed: Unnamed) -> tuple[list[CaseFiles], list[Problem]]:
    """Find the cases that `paths` name, each with a name of its own, in the order given.

    Args:
        paths: files and folders; folders are searched through and through.
        unnamed: what stands for what names do not tell.

    Returns:
        the cases, none with a mask or label, and what cannot be examined (severity "error") or was passed
        over ("note").
    """
    problems: list[Problem] = []
    loose = [path for path in paths if path.is_file()]
    found = list(_sorted(Path(), loose, unnamed, problems, named=True))
    for path in paths:
        if path.is_dir():
            files, others = divided_below(path, _is_read)
            within = list(_sorted(path, files, unnamed, problems, named=False))
            if not within and not any(problem.path.is_relative_to(path) for problem in problems):
                problems.append(Problem(path, f"holds nothing to examine; {_READABLE} are read"))
            problems += passed_over(others)
            found += within
        elif not path.is_file():
            problems.append(Problem(path, "does not exist"))
    return _without_doubles(found), problems


def _is_read(path: Path) -> bool:
    return path.name.lower().endswith(brats.SUFFIXES) or claims_picture(path)


def _sorted(
    root: Path, files: Iterable[Path], unnamed: Unnamed, problems: list[Problem], *, named: bool
) -> Iterator[CaseFiles]:
    """Sort files into cases. A mask that was `named` on purpose is an error, one met in a folder is not."""
    volumes: list[Path] = []
    slices: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    flat: list[Path] = []
    for path in files:
        name, part = brats.file_name(path), _slice_of_lgg(path)
        is_volume = name.lower().endswith(brats.SUFFIXES)
        if brats.is_mask_name(name if is_volume else path.stem):
            problems.append(Problem(path, "a mask by its name, not examined", "error" if named else "note"))
        elif is_volume:
            volumes.append(path)
        elif part is not None:
            slices[path.parent, part.case][part.number] = path
        elif claims_picture(path):
            flat.append(path)
        else:
            problems.append(Problem(path, f"{why_passed_over(path)}; {_READABLE} are read"))
    yield from _volumes(volumes, unnamed.volume, problems)
    for (_, case), numbered in slices.items():
        yield _case(case, "lgg", lgg.CHANNELS, [numbered[number] for number in sorted(numbered)])
    for path in flat:
        inner = path.relative_to(root) if root != Path() else Path(path.name)
        yield _case("-".join(inner.with_suffix("").parts), "picture", (unnamed.picture,), [path])


def _volumes(paths: Iterable[Path], unnamed: Modality | None, problems: list[Problem]) -> Iterator[CaseFiles]:
    """Gather the modalities of a patient; a volume whose name tells no patient is a case of its own."""
    gathered: dict[tuple[Path, str], dict[Modality, Path]] = defaultdict(dict)
    for path in paths:
        home, case, modality = _place(path)
        modality = modality or unnamed
        if modality is None:
            what = f"says nothing about its modality; add --modality {'|'.join(MODALITIES)}"
            problems.append(Problem(path, what))
        elif gathered[home, case].setdefault(modality, path) != path:
            problems.append(Problem(path, "a second file of its kind, not examined", "note"))
    for (_, case), files in gathered.items():
        modalities = tuple(modality for modality in MODALITIES if modality in files)
        yield _case(case, "nifti", modalities, [files[modality] for modality in modalities])


def _place(path: Path) -> tuple[Path, str, Modality | None]:
    """Return what gathers a volume with the others of its patient, the patient, and the modality it names."""
    name, folder = brats.file_name(path), brats.case_folder(path)
    parsed = brats.parse_name(name)
    if parsed is not None and parsed.modality is not None:
        return folder, parsed.case, parsed.modality
    if names_modality_alone(name):
        return folder, folder.absolute().name, guess_modality(name)
    return path, name.removesuffix(".gz").removesuffix(".nii"), guess_modality(name)


def _slice_of_lgg(path: Path) -> lgg.FileName | None:
    """Read the name of a TIFF that a mask lies beside, or that is called as the slices of kaggle_3m are."""
    name = lgg.parse_name(path.name) if path.suffix.lower() in lgg.SUFFIXES else None
    if name is None or name.is_mask:
        return None
    beside = path.with_name(f"{path.stem}_mask{path.suffix}").is_file()
    return name if beside or lgg.is_slice_name(path.name) else None


def _case(name: str, kind: CaseKind, modalities: tuple[Modality, ...], images: Sequence[Path]) -> CaseFiles:
    key = CaseKey(SOURCE, safe_name(name), safe_name(name))
    return CaseFiles(key, kind, modalities, tuple(images), (), None, key.patient)


def _without_doubles(cases: list[CaseFiles]) -> list[CaseFiles]:
    """Leave out what was named twice, and number the cases whose names are alike: each has its own mask."""
    taken: set[str] = set()
    own: list[CaseFiles] = []
    for case in {case.images: case for case in cases}.values():
        name, number = case.key.case, 1
        while name.lower() in taken:
            number += 1
            name = f"{case.key.case}-{number}"
        taken.add(name.lower())
        own.append(replace(case, key=CaseKey(SOURCE, name, name), group=name))
    return own
