"""Where cases come from. A source turns a folder into cases and the problems met on the way."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, assert_never

from slicewise.core.labels import LabelMap, Modality
from slicewise.data.cases import CaseFiles
from slicewise.data.file_kinds import claims_picture
from slicewise.data.problems import Problem
from slicewise.data.sources.tree import ENDINGS, divided_below, files_below, passed_over

FolderKind = Literal["brats", "lgg", "pictures"]


def files_read(kind: FolderKind, root: Path) -> list[Path]:
    """Return the files that `discover` looks at, and no others. Imports nothing heavy.

    Raises:
        DataError: `root` is not a folder, a folder cannot be read, or a name is not UTF-8.
    """
    return divided_below(root, claims_picture)[0] if kind == "pictures" else files_below(root, ENDINGS[kind])


def files_passed_over(kind: FolderKind, root: Path) -> list[Problem]:
    """Return a note for each file below `root` that `discover` does not look at. Imports nothing heavy.

    Raises:
        DataError: as `files_read`.
    """
    ends = ENDINGS[kind]
    is_read = claims_picture if kind == "pictures" else lambda path: path.name.lower().endswith(ends)
    return passed_over(divided_below(root, is_read)[1])


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
            return kept, problems + brats.mixed_releases(root, kept) + files_passed_over(kind, root)
        case "lgg":
            from slicewise.data.sources import lgg

            kept, problems = _without_copies(*lgg.discover(root, source))
            return kept, problems + files_passed_over(kind, root)
        case "pictures":
            from slicewise.data.sources import pictures

            return pictures.discover(
                root, source, slot, group_duplicates=group_duplicates, train_only=train_only
            )
        case _:
            assert_never(kind)


def _without_copies(
    cases: Sequence[CaseFiles], problems: list[Problem]
) -> tuple[list[CaseFiles], list[Problem]]:
    from slicewise.data.copies import without_copies

    kept, found = without_copies(cases)
    return kept, problems + found
