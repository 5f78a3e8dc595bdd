"""The MNI152 maps that nilearn ships (ICBM 2009a nonlinear symmetric, Fonov 2011), prepared once per process.

Arrays are [slice, row, col] in the order of a BraTS file: slice up, row towards posterior, col towards left.
The files are read directly, since importing nilearn would also import scikit-learn and pandas.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from slicewise.core.errors import DataError

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
"""In this package always float32."""

_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
MIDLINE_COL = 98
"""Column of the mid-sagittal plane."""


@dataclass(frozen=True)
class Atlas:
    """Maps of one average brain; the distances are signed and sampled every second millimetre.

    `t1`, `grey`, `white` are uint8 [slice, row, col] at 1 mm; 255 is the brightest, or a probability of 1.
    `depth` is mm below the brain's surface (negative outside), `head` the same for the closed outline without
    sulci and fissures, `ventricle` is mm from the wall of the ventricles (negative within).
    """

    t1: Bytes
    grey: Bytes
    white: Bytes
    depth: Floats
    head: Floats
    ventricle: Floats


def _read(name: str) -> Bytes:
    spec = find_spec("nilearn")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "datasets" / "data" / _FILE.format(name)
        if path.is_file():
            ras: Bytes = np.asanyarray(nib.load(path).dataobj)
            return np.ascontiguousarray(ras[::-1, ::-1, :].T, dtype=np.uint8)
    raise DataError(f"{_FILE.format(name)} is not in the installed nilearn; run: pip install -U nilearn")


def _signed_distance(inside: Bools) -> Floats:
    """Return mm to the border, positive inside, for a mask sampled every 2 mm."""
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return np.asarray(distance * 2 - np.sign(distance), dtype=np.float32)


def _ventricles(t1: Bytes, depth: Floats) -> Bools:
    """Return the lateral and third ventricles (2 mm): dark and deep, but no fissure, cistern or insula."""
    z, y, x = np.ogrid[: t1.shape[0], : t1.shape[1], : t1.shape[2]]
    y = y - 10
    lateral = np.abs(x * 2 - MIDLINE_COL)
    central = (z > 27) & (z < 50) & (y > 22) & (y < 72) & (lateral < np.where(y < 46, 28, 40))
    fissure = (lateral < 5) & ((y < 30) | (y > 46) | (z > 44))
    dark = (t1 > 0) & (t1 < 125) & (depth > 14)
    return np.asarray(dark & central & ~fissure)


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """Read and prepare the maps; the first call takes about a second, the next ones nothing.

    Raises:
        DataError: nilearn is not installed, or ships other files.
    """
    t1, grey, white = (_read(name) for name in ("t1", "gm", "wm"))
    half = (slice(None, None, 2),) * 3
    brain = t1[half] > 40
    depth = _signed_distance(brain)
    padded = np.pad(brain, 12)
    closed = ndimage.binary_erosion(_signed_distance(padded) > -16, iterations=8)[12:-12, 12:-12, 12:-12]
    head = ndimage.gaussian_filter(_signed_distance(closed | brain), 2.5)
    ventricle = -_signed_distance(_ventricles(t1[half], depth))
    return Atlas(t1, grey, white, depth, head, ventricle)
