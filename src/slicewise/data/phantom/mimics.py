"""What resembles a tumour: white-matter disease, vessels, choroid plexus, dura, remains of the skull."""

from dataclasses import dataclass

import numpy as np

from slicewise.data.phantom.anatomy import Tissue
from slicewise.data.phantom.atlas import Bools, Floats
from slicewise.data.phantom.fields import Field, Points, bump, smoothstep


@dataclass(frozen=True)
class Extras:
    """Fractions [N] in 0..1 of what lies on top of the tissue."""

    hyperintensity: Floats
    vessel: Floats
    plexus: Floats
    dura: Floats


@dataclass(frozen=True)
class Mimics:
    """A patient's tumour look-alikes as functions of position."""

    patches: Field
    spots: Field
    branch: Field
    course: Field
    surface: Field
    band_mm: float
    spot_level: float
    vessel_width: float
    strip_mm: float
    scraps: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Mimics":
        return cls(
            patches=Field.draw(rng, 12),
            spots=Field.draw(rng, 7),
            branch=Field.draw(rng, 15),
            course=Field.draw(rng, 15),
            surface=Field.draw(rng, 11),
            band_mm=min(float(rng.gamma(2.0, 1.2)), 6.0),
            spot_level=float(rng.uniform(2.0, 3.4)),
            vessel_width=float(rng.uniform(0.08, 0.14)),
            strip_mm=float(rng.uniform(-1.0, 1.5)),
            scraps=float(rng.uniform(0.3, 4.0)),
        )

    def at(self, points: Points, tissue: Tissue) -> Extras:
        """Return the fractions at the points."""
        return Extras(
            self._hyperintensity(points, tissue),
            self._vessels(points, tissue),
            self._plexus(points, tissue),
            smoothstep(tissue.head, -0.2, -1.2),
        )

    def skull_stripped(self, points: Points, tissue: Tissue) -> Bools:
        """Return bool [N]: what an imperfect skull stripping keeps, with some dura and scalp."""
        noise = self.surface.at(points)
        edge = self.strip_mm + 0.7 * noise - self.scraps * smoothstep(noise, 0.7, 1.6)
        return np.asarray(((tissue.depth > edge) | (tissue.head > 5)) & (tissue.height >= 0))

    def _hyperintensity(self, points: Points, tissue: Tissue) -> Floats:
        """Return caps and bands along the ventricles, and small spots in deep white matter (Fazekas)."""
        patches = self.patches.at(points)
        width = np.maximum(self.band_mm * (1 + 0.5 * patches), 0.3)
        band = smoothstep(tissue.ventricle - width, 1.2, -0.8)
        deep = smoothstep(tissue.depth, 9, 14)
        spots = smoothstep(self.spots.at(points), self.spot_level - 0.35, self.spot_level + 0.15) * deep
        above = smoothstep(tissue.height, 62, 70)
        return np.asarray(np.maximum(band, spots) * tissue.white * above)

    def _vessels(self, points: Points, tissue: Tissue) -> Floats:
        """Return tubes where two fields vanish together, near the surface and in cisterns, and the sinus."""
        radius = np.hypot(self.branch.at(points), self.course.at(points))
        where = np.maximum(smoothstep(tissue.depth, 15, 5), tissue.csf * smoothstep(tissue.height, 75, 60))
        tubes = bump(radius, self.vessel_width) * where
        top = smoothstep(tissue.head, 3.5, 1.0) * smoothstep(tissue.height, 55, 65)
        sinus = bump(tissue.lateral, 3.0) * top
        return np.asarray(np.maximum(tubes, sinus))

    def _plexus(self, points: Points, tissue: Tissue) -> Floats:
        """Return the choroid plexus: strands inside the lateral ventricles."""
        inside = smoothstep(tissue.ventricle, 0.0, -1.0) * smoothstep(np.abs(tissue.lateral), 5, 8)
        return inside * smoothstep(self.spots.at(points), 0.5, 1.0)
