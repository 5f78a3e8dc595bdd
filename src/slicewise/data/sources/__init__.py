"""Where cases come from. A source turns a folder into cases and the problems met on the way."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, assert_never

from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.data.sources.tree import SUFFIXES_BY_KIND, list_files, note_skipped, partition_files
from slicewise.domain.labels import LabelMap, Modality
from slicewise.imaging.io.file_format import looks_like_picture

FolderKind = Literal["brats", "lgg", "pictures"]


def list_read_files(kind: FolderKind, root: Path) -> list[Path]:
    """Return the files that `discover` looks at, and no others. Imports nothing heavy.

    Raises:
        DataError: `root` is not a folder, a folder cannot be read, or a name is not UTF-8.
    """
    return (
        partition_files(root, looks_like_picture)[0]
        if kind == "pictures"
        else list_files(root, SUFFIXES_BY_KIND[kind])
    )


def list_skipped_files(kind: FolderKind, root: Path) -> list[Problem]:
    """Return a note for each file below `root` that `discover` does not look at. Imports nothing heavy.

    Raises:
        DataError: as `list_read_files`.
    """
    ends = SUFFIXES_BY_KIND[kind]
    is_read = looks_like_picture if kind == "pictures" else lambda path: path.name.lower().endswith(ends)
    return note_skipped(partition_files(root, is_read)[1])


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
    """Find the cases of one source below `root`. Virtual patients are laid out as `brats` is.

    `slot` is the modality slot that a picture fills; volumes say themselves what they are, and those that are
    the same under two names are taken once. With `group_duplicates` pictures that are the same, or almost,
    count as one patient. `train_only` names folders directly below `root` that give way where they repeat a
    picture of another folder. `mask_name` and `labels` are those of `brats.discover`.

    Raises:
        DataError: the folder holds nothing of this kind, and the message says what was expected; or a folder
            in it cannot be read, or a name is not UTF-8.
    """
    match kind:
        case "brats":
            from slicewise.data.sources import brats

            kept, problems = _without_copies(
                *brats.discover(root, source, mask_name=mask_name, labels=labels)
            )
            return kept, problems + brats.warn_mixed_releases(root, kept) + list_skipped_files(kind, root)
        case "lgg":
            from slicewise.data.sources import lgg

            kept, problems = _without_copies(*lgg.discover(root, source))
            return kept, problems + list_skipped_files(kind, root)
        case "pictures":
            from slicewise.data.sources import class_folders

            return class_folders.discover(
                root, source, slot, group_duplicates=group_duplicates, train_only=train_only
            )
        case _:
            assert_never(kind)


def _without_copies(
    cases: Sequence[CaseFiles], problems: list[Problem]
) -> tuple[list[CaseFiles], list[Problem]]:
    from slicewise.data.duplicates.exact import drop_copies

    kept, found = drop_copies(cases)
    return kept, problems + found
