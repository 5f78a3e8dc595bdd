"""Data sources: the cases and problems in a folder, by the layout of the data set.

brats          BraTS and other volumes named likewise
lgg            kaggle_3m, a slice per TIFF
class_folders  pictures in folders named yes and no
folder_labels  the label in the name of a folder
train_only     folders of pictures that are never tested
tree           the files below a folder, in natural order
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.data.sources.tree import SUFFIXES_BY_KIND, note_skipped, partition_files
from slicewise.domain.labels import LabelMap, Modality
from slicewise.imaging.io.file_format import looks_like_picture

FolderKind = Literal["brats", "lgg", "pictures"]


def list_read_files(kind: FolderKind, root: Path) -> list[Path]:
    """Return the files that `discover` reads. Imports nothing heavy.

    Raises:
        DataError: `root` is not a folder, a folder cannot be read, or a name is not UTF-8.
    """
    return partition_files(root, _reader_filter(kind))[0]


def list_skipped_files(kind: FolderKind, root: Path) -> list[Problem]:
    """Return a note for each file below `root` that `discover` does not read. Imports nothing heavy.

    Raises:
        DataError: as `list_read_files`.
    """
    return note_skipped(partition_files(root, _reader_filter(kind))[1])


def _reader_filter(kind: FolderKind) -> Callable[[Path], bool]:
    ends = SUFFIXES_BY_KIND[kind]
    return looks_like_picture if kind == "pictures" else lambda path: path.name.lower().endswith(ends)


def discover(
    kind: FolderKind,
    root: Path,
    source: str,
    slot: Modality = "flair",
    *,
    group_duplicates: bool = True,
    train_only: Collection[str] = (),
    mask_name: str | None = None,
    labels: LabelMap | None = None,
) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the cases of one source below `root`, and the problems. Virtual patients are laid out as BraTS.

    Volumes that are identical under two names are taken once.

    Args:
        kind: layout of the folder.
        root: the folder.
        source: name of the source.
        slot: modality slot of pictures.
        group_duplicates: identical and near-identical pictures count as one patient.
        train_only: folders directly below `root` whose pictures are left out where they repeat others.
        mask_name: see `brats.discover`.
        labels: see `brats.discover`.

    Raises:
        DataError: the folder holds nothing of this kind, cannot be read, or a name in it is not UTF-8.
    """
    if kind == "pictures":
        from slicewise.data.sources import class_folders

        return class_folders.discover(
            root, source, slot, group_duplicates=group_duplicates, train_only=train_only
        )
    from slicewise.data.duplicates.exact import drop_copies
    from slicewise.data.sources import brats, lgg

    if kind == "lgg":
        cases, problems = lgg.discover(root, source)
    else:
        cases, problems = brats.discover(root, source, mask_name=mask_name, labels=labels)
    unique, copied = drop_copies(cases)
    mixed = brats.warn_mixed_releases(root, unique) if kind == "brats" else []
    return unique, [*problems, *copied, *mixed, *list_skipped_files(kind, root)]
