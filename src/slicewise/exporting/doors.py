"""Folders of other programs' form, by name. Other packages add theirs as `slicewise.doors`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from slicewise.core.registry import Registry
from slicewise.exporting.replaced_folder import replaced

if TYPE_CHECKING:
    from slicewise.models.checkpoint import Checkpoint


class Door(NamedTuple):
    """A form of folder."""

    write: "Callable[[Path, Checkpoint, Path], None]"
    """Writes the checkpoint at a path into a folder"""
    marker: str
    """A file by which a folder of this form is known"""


DOORS: Final[Registry[Door]] = Registry(
    "doors",
    {
        "huggingface": "slicewise.exporting.huggingface:HUGGINGFACE",
        "monai": "slicewise.exporting.monai_bundle:MONAI",
    },
)


def write_door(name: str, path: Path, checkpoint: "Checkpoint", folder: Path) -> None:
    """Write the checkpoint at `path` as a folder, which replaces one of the same form.

    Raises:
        UsageError: the folder holds something else.
    """
    door = DOORS[name]
    with replaced(folder, lambda old: (old / door.marker).is_file(), f"an export as {name}") as partial:
        door.write(path, checkpoint, partial)
