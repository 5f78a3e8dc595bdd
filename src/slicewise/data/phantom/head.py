"""The head around the brain, in pictures that are not skull-stripped: CSF, dura, skull, scalp and air."""

from dataclasses import dataclass

import numpy as np

from slicewise.data.phantom.anatomy import Tissue
from slicewise.data.phantom.atlas import Floats
from slicewise.data.phantom.fields import Field, Points, smoothstep
from slicewise.domain.labels import Modality

_BONE_AND_MARROW: dict[Modality, tuple[float, float]] = {
    "t1": (0.12, 0.55), "t1ce": (0.12, 0.60), "t2": (0.14, 0.60), "flair": (0.12, 0.40),
}  # fmt: skip
"""Relative to white matter."""
_FAT_AND_SKIN: dict[Modality, tuple[float, float]] = {
    "t1": (1.55, 0.75), "t1ce": (1.50, 0.95), "t2": (1.70, 0.90), "flair": (1.25, 0.80),
}  # fmt: skip


@dataclass(frozen=True)
class Head:
    """A patient's skull and scalp; thicknesses in mm."""

    waves: Field
    marrow: Field
    skull_mm: float
    scalp_mm: float
    fat: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Head":
        return cls(
            Field.draw(rng, 45),
            Field.draw(rng, 9),
            skull_mm=float(rng.uniform(4.5, 8.5)),
            scalp_mm=float(rng.uniform(3.5, 8.0)),
            fat=float(rng.uniform(0.5, 1.25)),
        )

    def cover(self, signal: Floats, modality: Modality, points: Points, tissue: Tissue) -> Floats:
        """Return the signal [N] with everything outside the dura replaced by skull, scalp and air."""
        waves = self.waves.at(points)
        outside = -tissue.head - np.float32(1.6)
        skull = np.maximum(np.float32(self.skull_mm) * (1 + 0.16 * waves), 2.5)
        scalp = np.maximum(np.float32(self.scalp_mm) * (1 - 0.22 * waves), 2.0)
        bone, marrow = _BONE_AND_MARROW[modality]
        middle = smoothstep(np.abs(outside / skull - 0.5), 0.33, 0.12) * smoothstep(skull, 4.0, 6.5)
        inside_bone = bone + (marrow - bone) * middle * (0.75 + 0.2 * self.marrow.at(points))
        fat, skin = _FAT_AND_SKIN[modality]
        above = outside - skull
        layer = smoothstep(above, 0.3, 1.2) * smoothstep(above - scalp, -1.0, -2.2)
        soft = skin + (fat * np.float32(self.fat) - skin) * layer * (0.9 + 0.08 * self.marrow.at(points))
        covered = _blend(signal, inside_bone, smoothstep(outside, -0.5, 0.5))
        covered = _blend(covered, soft, smoothstep(above, -0.5, 0.5))
        return _blend(covered, np.zeros_like(soft), smoothstep(above - scalp, -0.5, 0.5))


def _blend(under: Floats, over: Floats, fraction: Floats) -> Floats:
    return under + (over - under) * fraction
