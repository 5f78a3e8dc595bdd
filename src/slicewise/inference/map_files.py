"""Files of the masks and probability maps of one case: NIfTI, PNG, or a folder with a PNG per slice.

Each takes its name when it is complete, and replaces one of that name as a whole.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from numpy.typing import NDArray

from slicewise.core.disk import set_filename
from slicewise.core.files import atomic_write
from slicewise.domain.classes import Colour
from slicewise.imaging.io.image2d import to_png
from slicewise.imaging.io.nifti import write_nifti
from slicewise.imaging.orientation import Orientation


class MapOfClass(NamedTuple):
    """What becomes a file."""

    stem: str
    """Its name, without the extension; the last word is also in the names of slices"""
    values: NDArray[Any]
    """[slice, row, col], for NIfTI"""
    pixels: NDArray[Any]
    """Likewise, for PNG: uint8 or uint16"""


def write_volumes(folder: Path, maps: Sequence[MapOfClass], orientation: Orientation) -> str:
    """Write a NIfTI each on the grid of the case's files; return their names, separated by `; `."""
    for each in maps:
        write_nifti(folder / f"{each.stem}.nii.gz", each.values, orientation)
    return "; ".join(f"{each.stem}.nii.gz" for each in maps)


def write_pictures(folder: Path, maps: Sequence[MapOfClass], palette: Sequence[Colour] = ()) -> str:
    """Write a PNG each, of their only slice; return the names likewise."""
    for each in maps:
        with atomic_write(folder / f"{each.stem}.png") as stream:
            stream.write(to_png(each.pixels[0], palette))
    return "; ".join(f"{each.stem}.png" for each in maps)


def write_slices(
    folder: Path, maps: Sequence[MapOfClass], names: Sequence[str], palette: Sequence[Colour] = ()
) -> str:
    """Write a folder each, with a PNG per slice of the `names`; return the names of the folders likewise."""
    for each in maps:
        what = each.stem.rpartition("_")[2]
        pictures = [to_png(part, palette) for part in each.pixels]
        _replace_folder(folder / each.stem, [f"{name}_{what}.png" for name in names], pictures)
    return "; ".join(each.stem for each in maps)


def _replace_folder(folder: Path, names: Sequence[str], pictures: Sequence[bytes]) -> None:
    """Write pictures into a new folder; an existing one is replaced once it is complete, else kept."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            complete, backup = Path(temporary) / "new", Path(temporary) / "old"
            complete.mkdir()
            for name, picture in zip(names, pictures, strict=True):
                (complete / name).write_bytes(picture)
            if folder.exists():
                folder.rename(backup)
            try:
                complete.rename(folder)
            except BaseException:
                if backup.exists():
                    backup.rename(folder)
                raise
    except OSError as error:
        set_filename(error, folder)
        raise
