"""The predicted mask of a case as files, on the grid of its input files.

One NIfTI for a volume, one PNG for a picture, and a folder with a PNG per slice for a case of kaggle_3m. A
mask takes its name when it is complete, and replaces one of that name as a whole.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slicewise.core.disk import set_filename
from slicewise.core.files import atomic_write
from slicewise.data.cases import CaseFiles
from slicewise.imaging.volume import Volume, save_mask_nifti
from slicewise.plots.overlay import to_png

_WHITE = np.uint8(255)


def write_mask(folder: Path, case: CaseFiles, volume: Volume, mask: NDArray[np.bool_]) -> str:
    """Write the mask [slice, row, col] of a case into `folder`; return its name there.

    NIfTI holds 1 for tumour, PNG 255; both hold 0 elsewhere.
    """
    name = case.key.case
    match case.kind:
        case "nifti":
            path = folder / f"{name}_mask.nii.gz"
            save_mask_nifti(path, mask.astype(np.uint8), volume)
            return f"{name}_mask.nii.gz"
        case "picture":
            with atomic_write(folder / f"{name}_mask.png") as stream:
                stream.write(to_png(mask[0] * _WHITE))
            return f"{name}_mask.png"
        case "lgg":
            _write_slices(folder / f"{name}_mask", case.images, mask)
            return f"{name}_mask"


def _write_slices(folder: Path, images: Sequence[Path], mask: NDArray[np.bool_]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for path, part in zip(images, mask, strict=True):
            (partial / f"{path.stem}_mask.png").write_bytes(to_png(part * _WHITE))
        partial.chmod(0o755)
        _replace(folder, partial)
    except OSError as error:
        set_filename(error, folder)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(folder: Path, complete: Path) -> None:
    """Rename `complete` to `folder`; if that fails, an existing folder keeps its name."""
    if folder.exists():
        backup = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")) / "old"
        folder.rename(backup)
        try:
            complete.rename(folder)
        except BaseException:
            backup.rename(folder)
            raise
        finally:
            shutil.rmtree(backup.parent)
    else:
        complete.rename(folder)
