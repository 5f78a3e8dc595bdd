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

from slicewise.data.cases import CaseFiles, CaseKind
from slicewise.data.filenames import SUFFIXES, effective_name
from slicewise.data.grouping import group_files, select_images
from slicewise.data.problems import Problem, Severity
from slicewise.data.sources import class_folders, lgg
from slicewise.data.sources.tree import note_skipped, partition_files
from slicewise.domain.keys import CaseKey, safe_name
from slicewise.domain.labels import MODALITIES, Modality
from slicewise.imaging.io.file_format import explain_skipped, looks_like_picture

SOURCE: Final = "input"
_READABLE: Final = "NIfTI volumes (.nii, .nii.gz), slices of kaggle_3m, or pictures (JPEG, PNG, TIFF, ...)"
_MASK: Final = "a mask by its name, not examined"
_OTHER: Final = "another image than t1, t1ce, t2 or flair by its name, not examined; rename it if it is one"
_UNIDENTIFIED: Final = (
    f"says nothing about its modality; add --modality {'|'.join(MODALITIES)}, or rename it to CASE_t1, "
    "CASE_t1ce, CASE_t2 or CASE_flair"
)


@dataclass(frozen=True)
class DefaultModalities:
    """What a file that does not say it shows: the modality of a volume, and the slot of a picture."""

    volume: Modality | None
    picture: Modality


def find_inputs(paths: Sequence[Path], unnamed: DefaultModalities) -> tuple[list[CaseFiles], list[Problem]]:
    """Find the cases that `paths` name, each with a name of its own, in the order given.

    Args:
        paths: files and folders; folders are searched through and through.
        unnamed: what stands for what names do not tell.

    Returns:
        the cases, none with a mask or label, and what cannot be examined (severity "error"), what was read
        in one of two possible ways ("warning") or was passed over ("note").
    """
    problems: list[Problem] = []
    loose = [path for path in paths if path.is_file()]
    found = list(_sort_files(Path(), loose, unnamed, problems, named=True))
    for path in paths:
        if path.is_dir():
            files, others = partition_files(path, _is_read)
            within = list(_sort_files(path, files, unnamed, problems, named=False))
            if not within and not any(problem.path.is_relative_to(path) for problem in problems):
                problems.append(Problem(path, f"holds nothing to examine; {_READABLE} are read"))
            problems += note_skipped(others)
            found += within
        elif not path.is_file():
            problems.append(Problem(path, "does not exist"))
    return _drop_repeated(found), problems


def _is_read(path: Path) -> bool:
    return effective_name(path).lower().endswith(SUFFIXES) or looks_like_picture(path)


def _sort_files(
    root: Path, files: Iterable[Path], unnamed: DefaultModalities, problems: list[Problem], *, named: bool
) -> Iterator[CaseFiles]:
    """Sort files into cases. What is no image is an error where it was `named`, and a note in a folder."""
    volumes: list[Path] = []
    slices: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    flat: list[Path] = []
    severity: Severity = "error" if named else "note"
    files = list(files)
    masks = class_folders.find_masks(root, [path for path in files if looks_like_picture(path)])
    for path in files:
        part = _slice_of_lgg(path)
        if effective_name(path).lower().endswith(SUFFIXES):
            volumes.append(path)
        elif path in masks:
            problems.append(Problem(path, _MASK, severity))
        elif part is not None:
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
        yield _case("-".join(inner.with_suffix("").parts), "picture", (unnamed.picture,), [path])


def _group_volumes(
    paths: Iterable[Path],
    root: Path | None,
    unnamed: Modality | None,
    problems: list[Problem],
    severity: Severity,
) -> Iterator[CaseFiles]:
    """Gather the modalities of a patient; a volume whose name tells no patient is a case of its own."""
    gathered = group_files(paths, root, unnamed=unnamed)
    problems += gathered.problems
    problems += [Problem(path, _UNIDENTIFIED) for path in gathered.unidentified]
    problems += [Problem(path, _OTHER, severity) for path in gathered.others]
    for draft in gathered.drafts:
        problems += [Problem(found.path, _MASK, severity) for found in draft.masks]
        images, image_problems = select_images(draft)
        problems += image_problems
        if images:
            yield _case(draft.name, "nifti", tuple(images), list(images.values()))


def _slice_of_lgg(path: Path) -> lgg.SliceName | None:
    """Read the name of a TIFF that a mask lies beside, or that is called as the slices of kaggle_3m are."""
    name = lgg.parse_name(path.name) if path.suffix.lower() in lgg.SUFFIXES else None
    if name is None or name.is_mask:
        return None
    beside = path.with_name(f"{path.stem}_mask{path.suffix}").is_file()
    return name if beside or lgg.is_slice_name(path.name) else None


def _case(name: str, kind: CaseKind, modalities: tuple[Modality, ...], images: Sequence[Path]) -> CaseFiles:
    key = CaseKey(SOURCE, safe_name(name), safe_name(name))
    return CaseFiles(key, kind, modalities, tuple(images), (), None, key.patient)


def _drop_repeated(cases: list[CaseFiles]) -> list[CaseFiles]:
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
