"""How a file's voxel grid lies in the patient, and how it is turned into the radiological view and back.

Affines follow NIfTI-1: voxel indices to mm that grow to the patient's right, front and top (RAS+).
"""

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

_RADIOLOGICAL = orientations.axcodes2ornt(("L", "P", "S"))

_MAX_MM = 1e6
_MIN_MM = 1e-4
"""Beyond these an affine is damage: areas and volumes computed from it would overflow."""

_MIN_VOLUME_RATIO = 1e-6
"""Of the volume that a voxel with these sides has at right angles: less, and two axes are one."""

Affine: TypeAlias = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Orientation:
    """A file's own grid: its affine (voxel to mm, RAS+) and shape, both in the file's axis order."""

    affine: Affine
    shape: tuple[int, int, int]
    header: bytes
    """The NIfTI header of the file as it stands there: what is written on this grid repeats its geometry."""
    assumed: bool = False
    """Whether that header says nothing about the orientation (qform and sform code are 0)."""

    @property
    def is_usable(self) -> bool:
        """Whether the affine is finite, gives each axis a direction of its own, and could be of a body."""
        affine = self.matrix()
        if not np.isfinite(affine).all() or np.abs(affine).max() > _MAX_MM:
            return False
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        volume = abs(float(np.linalg.det(affine[:3, :3])))
        return bool(lengths.min() > _MIN_MM and volume > _MIN_VOLUME_RATIO * lengths.prod())

    @property
    def axes(self) -> str:
        """Where the file's axes point, as in "LPS"."""
        return "".join(nib.aff2axcodes(self.matrix()))

    def matrix(self) -> NDArray[np.float64]:
        """Return the affine, [4, 4]."""
        return np.array(self.affine)

    def to_radiological(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view [slice, row, col] of an array in file order."""
        return cast(NDArray[Any], orientations.apply_orientation(array, self._transform()).T)

    def to_file_order(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view in file order of an array [slice, row, col]."""
        file_axes = orientations.io_orientation(self.matrix())
        return cast(
            NDArray[Any],
            orientations.apply_orientation(array.T, orientations.ornt_transform(_RADIOLOGICAL, file_axes)),
        )

    def spacing(self) -> tuple[float, float, float]:
        """Return the mm between voxels along (slice, row, col)."""
        inverse = orientations.inv_ornt_aff(self._transform(), self.shape)
        cols, rows, slices = (
            float(length) for length in np.linalg.norm((self.matrix() @ inverse)[:3, :3], axis=0)
        )
        return slices, rows, cols

    def skew(self) -> float:
        """Return by how many degrees two axes miss the right angle, at most."""
        directions = self.matrix()[:3, :3] / np.linalg.norm(self.matrix()[:3, :3], axis=0)
        cosines = np.abs(directions.T @ directions)[np.triu_indices(3, 1)]
        return float(np.degrees(np.arcsin(cosines.clip(0, 1))).max())

    def _transform(self) -> NDArray[Any]:
        file_axes = orientations.io_orientation(self.matrix())
        return cast(NDArray[Any], orientations.ornt_transform(file_axes, _RADIOLOGICAL))
