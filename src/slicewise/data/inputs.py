"""Inputs of prediction: the cases in given files and folders, without labels and split.

    a patient's folder as in BraTS, or one of many     one case per patient, its modalities by name
    a folder with t1.nii.gz, flair.nii.gz, ...         one case, named by the folder
    scan.nii.gz                                        one case of one modality
    a folder of kaggle_3m                              one case, a slice per TIFF
    DICOM files, folders of them, a DICOMDIR           one case per study, see `data.dicom_cases`
    picture.jpg, or a folder of pictures               one case per picture

A mask beside the images is not read: a prediction must not depend on it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from slicewise.data.cases import CaseFiles
from slicewise.data.filenames import SUFFIXES, effective_name
from slicewise.data.grouping import group_files, select_images
from slicewise.data.problems import Problem, Severity
from slicewise.data.sources import class_folders, lgg
from slicewise.data.sources.base import note_skipped, partition_files
from slicewise.domain.keys import CaseKey, safe_name
from slicewise.domain.labels import MODALITIES, Modality
from slicewise.imaging.io.dicom_frames import is_dicom
from slicewise.imaging.io.file_format import explain_skipped, looks_like_picture

SOURCE: Final = "input"
_READABLE: Final = (
    "NIfTI volumes (.nii, .nii.gz), DICOM series, slices of kaggle_3m, or pictures (JPEG, PNG, TIFF, ...)"
)
_MASK: Final = "a mask by its name, not predicted"
_OTHER: Final = "another image than t1, t1ce, t2 or flair by its name, not predicted; rename it if it is one"
_UNIDENTIFIED: Final = (
    f"does not name its modality; add --modality {'|'.join(MODALITIES)}, or rename it to CASE_t1, "
    "CASE_t1ce, CASE_t2 or CASE_flair"
)


@dataclass(frozen=True)
class DefaultModalities:
    """The modality of a volume whose name does not tell it, and the slot of pictures."""

    volume: Modality | None
    picture: str
    channels: tuple[str, ...] = MODALITIES
    """Of the model; DICOM series of other modalities are left out"""


def find_inputs(paths: Sequence[Path], unnamed: DefaultModalities) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the cases in files and folders, uniquely named and in the order given, and the problems.

    No case has a mask or label. Problems are files that cannot be predicted (severity "error"), are ambiguous
    ("warning") or skipped ("note").
    """
    problems: list[Problem] = []
    given = [path for path in paths if path.is_file()]
    dicom = dict(_loose_dicom(given, problems))
    loose = [path for path in given if not is_dicom(path)]
    cases = list(_sort_files(Path(), loose, unnamed, problems, named=True))
    for path in paths:
        if path.is_dir():
            files, others = partition_files(path, _is_read)
            inside = dict.fromkeys(filter(is_dicom, files), path)
            files = [file for file in files if file not in inside]
            within = list(_sort_files(path, files, unnamed, problems, named=False))
            if not (within or inside) and not any(problem.path.is_relative_to(path) for problem in problems):
                problems.append(Problem(path, f"holds nothing to predict; {_READABLE} are read"))
            problems += note_skipped(others)
            cases += within
            dicom = inside | dicom
        elif not path.is_file():
            problems.append(Problem(path, "does not exist"))
    cases += _dicom_cases(dicom, unnamed, problems)
    unique = list({case.images: case for case in cases}.values())
    names = class_folders.number_repeated(case.key.case for case in unique)
    return [
        replace(case, key=CaseKey(SOURCE, name, name), group=name)
        for name, case in zip(names, unique, strict=True)
    ], problems


def _is_read(path: Path) -> bool:
    return _is_volume(path) or is_dicom(path) or looks_like_picture(path)


def _loose_dicom(paths: Iterable[Path], problems: list[Problem]) -> Iterator[tuple[Path, Path]]:
    """Yield the DICOM files that were named one by one, or by a DICOMDIR, each with its folder."""
    for path in filter(is_dicom, paths):
        files = [path]
        if path.name.upper() == "DICOMDIR":
            from slicewise.data.dicom_cases import expand_directory

            files, faults = expand_directory(path)
            problems += faults
        yield from ((file, path.parent) for file in files)


def _dicom_cases(
    files: dict[Path, Path], unnamed: DefaultModalities, problems: list[Problem]
) -> list[CaseFiles]:
    if not files:
        return []
    from slicewise.data.dicom_cases import ModelInputs, find_dicom_cases

    inputs = ModelInputs(unnamed.channels, unnamed.volume, unnamed.picture)
    cases, faults = find_dicom_cases(files, inputs)
    problems += faults
    return list(cases)


def _is_volume(path: Path) -> bool:
    return effective_name(path).lower().endswith(SUFFIXES)


def _sort_files(
    root: Path, files: Iterable[Path], unnamed: DefaultModalities, problems: list[Problem], *, named: bool
) -> Iterator[CaseFiles]:
    """Yield the cases of files. A mask is an error where it was `named`, and a note in a folder."""
    volumes: list[Path] = []
    slices: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    flat: list[Path] = []
    severity: Severity = "error" if named else "note"
    files = list(files)
    masks = class_folders.find_masks(root, [path for path in files if looks_like_picture(path)])
    for path in files:
        part = lgg.parse_name(path.name)
        beside = path.with_name(f"{path.stem}_mask{path.suffix}")
        if _is_volume(path):
            volumes.append(path)
        elif path in masks:
            problems.append(Problem(path, _MASK, severity))
        elif part and not part.is_mask and (lgg.is_slice_name(path.name) or beside.is_file()):
            slices[path.parent, part.case][part.number] = path
        elif looks_like_picture(path):
            flat.append(path)
        else:
            problems.append(Problem(path, f"{explain_skipped(path)}; {_READABLE} are read"))
    yield from _group_volumes(volumes, None if named else root, unnamed.volume, problems, severity)
    for (_, case), numbered in slices.items():
        yield _case(case, "lgg", lgg.CHANNELS, [numbered[number] for number in sorted(numbered)])
    for path in flat:
        inner = path.relative_to(root) if root != Path() else Path(path.name)
        yield _case("-".join(inner.with_suffix("").parts), "class_folders", (unnamed.picture,), [path])


def _group_volumes(
    paths: Iterable[Path],
    root: Path | None,
    unnamed: Modality | None,
    problems: list[Problem],
    severity: Severity,
) -> Iterator[CaseFiles]:
    """Yield the cases of volumes; one whose name tells no patient is a case of its own."""
    grouped = group_files(paths, root, unnamed=unnamed)
    problems += grouped.problems
    problems += [Problem(path, _UNIDENTIFIED) for path in grouped.unidentified]
    problems += [Problem(path, _OTHER, severity) for path in grouped.others]
    for draft in grouped.drafts:
        problems += [Problem(mask.path, _MASK, severity) for mask in draft.masks]
        images, image_problems = select_images(draft)
        problems += image_problems
        if images:
            yield _case(draft.name, "brats", tuple(images), list(images.values()))


def _case(name: str, kind: str, modalities: tuple[str, ...], images: Sequence[Path]) -> CaseFiles:
    key = CaseKey(SOURCE, safe_name(name), safe_name(name))
    return CaseFiles(key, kind, modalities, tuple(images), (), None, key.patient)
