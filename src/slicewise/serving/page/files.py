"""The files that a visitor chooses: what they are by name, and the examinations among many of them."""

import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from slicewise.core.disk import MIB
from slicewise.core.errors import DataError
from slicewise.data.filenames import SUFFIXES, is_mask_name, parse_filename
from slicewise.imaging.io.file_format import PICTURE_SUFFIXES
from slicewise.serving.page.client import FileField

ARCHIVE_SUFFIX: Final = ".zip"
_DICOM: Final = (".dcm", ".dicom", ".ima")
_OTHER_VOLUMES: Final = (
    ".mgz",
    ".mgh",
    ".nrrd",
    ".mha",
    ".mhd",
    ".img",
    ".hdr",
    ".mnc",
    ".h5",
    ".mat",
    ".npy",
    ".npz",
)
_MOST_FILES: Final = 5000
"""In an archive"""


def is_volume(file_name: str) -> bool:
    return file_name.lower().endswith(SUFFIXES)


def is_archive(file_name: str) -> bool:
    return file_name.lower().endswith(ARCHIVE_SUFFIX)


def explain_refusal(file_name: str) -> str:
    """Return why a file of this name cannot be examined and what to do, or ''."""
    ending = Path(file_name).suffix.lower()
    if is_volume(file_name) or is_archive(file_name) or ending in PICTURE_SUFFIXES:
        return ""
    if ending in _DICOM or not ending:
        return f"{file_name} may be one slice of a DICOM series: put the whole series into a .zip."
    if ending in _OTHER_VOLUMES:
        return f"{file_name} is a volume of another format: convert it to NIfTI (.nii.gz) and choose that."
    return (
        f"{file_name} is neither a picture nor a volume: choose a PNG, JPEG or TIFF picture, NIfTI volumes "
        "(.nii, .nii.gz), or a .zip of a DICOM series."
    )


def case_name(names: Sequence[str]) -> str:
    """Return the name of the case that files of these names show: `P1` for P1_t1.nii and P1_flair.nii."""
    cases = dict.fromkeys(parse_filename(Path(name)).case for name in names if is_volume(name))
    stems = [PurePosixPath(name).stem.removesuffix(".nii") for name in names]
    return next(filter(None, cases), stems[0] if len(stems) == 1 else "Examination")


@dataclass
class BatchItem:
    """One picture or examination of a batch."""

    name: str
    files: list[FileField] = field(default_factory=list)
    problem: str = ""


def batch_items(files: Iterable[tuple[str, bytes]], max_mib: int) -> list[BatchItem]:
    """Return the pictures and examinations among files and the members of archives.

    Volumes of one case by their names are one examination. A file that cannot be examined is an item with its
    problem.
    """
    items: dict[str, BatchItem] = {}
    for name, content in _unpacked(files, max_mib, items):
        if problem := explain_refusal(name):
            items[name] = BatchItem(name, problem=problem)
        elif not is_volume(name):
            items[name] = BatchItem(name, [("file", (PurePosixPath(name).name, content))])
        else:
            _add_volume(items, name, content)
    return list(items.values())


def _add_volume(items: dict[str, BatchItem], name: str, content: bytes) -> None:
    parsed = parse_filename(Path(name))
    if parsed.kind == "mask":
        items[name] = BatchItem(name, problem=f"{name} is a mask by its name: only images are examined.")
        return
    if not parsed.sure or parsed.kind in (None, "other"):
        problem = (
            f"{name} does not say which sequence it is: name it like {parsed.case or 'P1'}_flair.nii.gz."
        )
        items[name] = BatchItem(name, problem=problem)
        return
    case = str(PurePosixPath(name).parent / (parsed.case or case_name([name])))
    item = items.setdefault(case, BatchItem(PurePosixPath(case).name))
    item.files.append((str(parsed.kind), (PurePosixPath(name).name, content)))


def _unpacked(
    files: Iterable[tuple[str, bytes]], max_mib: int, items: dict[str, BatchItem]
) -> Iterable[tuple[str, bytes]]:
    """Yield files and the members of archives; archives that cannot be read become items."""
    for name, content in files:
        if not is_archive(name):
            yield name, content
            continue
        try:
            yield from _members(name, content, max_mib)
        except (DataError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
            reason = (
                str(error)
                if isinstance(error, DataError)
                else f"{name} is damaged or encrypted: pack it again."
            )
            items[name] = BatchItem(name, problem=reason)


def _members(name: str, content: bytes, max_mib: int) -> list[tuple[str, bytes]]:
    """Return the files of an archive, without hidden ones.

    Raises:
        DataError: it holds too many files or, unpacked, too many bytes.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [
            member
            for member in archive.infolist()
            if not member.is_dir()
            and not any(part.startswith((".", "__MACOSX")) for part in member.filename.split("/"))
        ]
        size = sum(member.file_size for member in members)
        if len(members) > _MOST_FILES or size > 4 * max_mib * MIB:
            raise DataError(
                f"{name} holds {len(members)} files of {size / MIB:.0f} MiB: choose at most {_MOST_FILES} "
                f"files of {4 * max_mib} MiB at once."
            )
        pictures = [(member.filename, archive.read(member)) for member in members]
    if pictures and all(Path(each).suffix.lower() in ("", *_DICOM) for each, _ in pictures):
        return [(name, content)]
    return [(each, data) for each, data in pictures if not is_mask_name(Path(each).stem)]
