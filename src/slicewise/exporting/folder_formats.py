"""Formats that are folders, by name. Other packages add theirs as `slicewise.folder_formats`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from slicewise.core.registry import Registry
from slicewise.exporting.replaced_folder import replaced

if TYPE_CHECKING:
    from slicewise.models.checkpoint import Checkpoint


class FolderFormat(NamedTuple):
    """A format that is a folder."""

    write: "Callable[[Path, Checkpoint, Path], None]"
    """Writes the checkpoint at a path into a folder"""
    marker: str
    """A file by which a folder in this format is known"""


FOLDER_FORMATS: Final[Registry[FolderFormat]] = Registry(
    "folder_formats",
    {
        "huggingface": "slicewise.exporting.huggingface:HUGGINGFACE",
        "monai": "slicewise.exporting.monai_bundle:MONAI",
    },
)


def write_folder(name: str, path: Path, checkpoint: "Checkpoint", folder: Path) -> None:
    """Write the checkpoint at `path` as a folder, which replaces one in the same format.

    Raises:
        UsageError: the folder holds something else.
    """
    format_ = FOLDER_FORMATS[name]
    with replaced(folder, lambda old: (old / format_.marker).is_file(), f"an export as {name}") as partial:
        format_.write(path, checkpoint, partial)
