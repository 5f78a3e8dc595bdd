"""How a file's voxel grid lies in the patient, and its conversion to and from the radiological view.

Affines follow NIfTI-1: voxel indices to mm that grow to the patient's right, front and top (RAS+).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

_RADIOLOGICAL = orientations.axcodes2ornt(("L", "P", "S"))
_MIN_MM, _MAX_MM = 1e-4, 1e6
"""An affine outside this range is damaged: areas and volumes computed from it would overflow."""
_MIN_VOLUME_RATIO = 1e-6
"""Volume of a voxel over the product of its sides: below this, two axes coincide."""

Affine: TypeAlias = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Orientation:
    """A file's own grid: its affine (voxel to mm, RAS+) and shape, both in the file's axis order."""

    affine: Affine
    shape: tuple[int, int, int]
    header: bytes
    """The file's NIfTI header; files written on this grid repeat its geometry."""
    assumed: bool = False
    """Whether the header holds no orientation (qform and sform code are 0)."""

    @property
    def is_usable(self) -> bool:
        """Whether the affine is finite, maps a volume, and has a plausible size."""
        affine = self.matrix()
        if not np.isfinite(affine).all() or np.abs(affine).max() > _MAX_MM:
            return False
        lengths, volume = voxel_sides(affine), abs(float(np.linalg.det(affine[:3, :3])))
        return bool(lengths.min() > _MIN_MM and volume > _MIN_VOLUME_RATIO * lengths.prod())

    @property
    def axes(self) -> str:
        """Directions of the file's axes, such as "LPS"."""
        return "".join(nib.aff2axcodes(self.matrix()))

    def matrix(self) -> NDArray[np.float64]:
        """Return the affine, [4, 4]."""
        return np.array(self.affine)

    def to_radiological(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view [slice, row, col] of an array in file order."""
        return cast(NDArray[Any], orientations.apply_orientation(array, self._transform()).T)

    def to_file_order(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view in file order of an array [slice, row, col]."""
        back = orientations.ornt_transform(_RADIOLOGICAL, orientations.io_orientation(self.matrix()))
        return cast(NDArray[Any], orientations.apply_orientation(array.T, back))

    def spacing(self) -> tuple[float, float, float]:
        """Return the mm between voxels along (slice, row, col)."""
        inverse = orientations.inv_ornt_aff(self._transform(), self.shape)
        cols, rows, slices = voxel_sides(self.matrix() @ inverse).tolist()
        return slices, rows, cols

    def skew(self) -> float:
        """Return the largest deviation of two axes from a right angle, in degrees."""
        directions = self.matrix()[:3, :3] / voxel_sides(self.matrix())
        cosines = np.abs(directions.T @ directions)[np.triu_indices(3, 1)]
        return float(np.degrees(np.arcsin(cosines.clip(0, 1))).max())

    def _transform(self) -> NDArray[Any]:
        file_axes = orientations.io_orientation(self.matrix())
        return cast(NDArray[Any], orientations.ornt_transform(file_axes, _RADIOLOGICAL))


def voxel_sides(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lengths [3] of a voxel's sides, in mm."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def format_sizes(sizes: Iterable[float], spec: str = "") -> str:
    """Return "2 x 1 x 1"."""
    return " x ".join(f"{size:{spec}}" for size in sizes)
