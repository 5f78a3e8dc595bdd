"""Where tumours grow: centres in the parenchyma, each with an ellipsoid of its own."""

from dataclasses import dataclass

import numpy as np

from slicewise.data.phantom.anatomy import Tissue
from slicewise.data.phantom.atlas import Bools, Floats
from slicewise.data.phantom.fields import Points


@dataclass(frozen=True)
class Focus:
    """One mass: its centre (voxels), the matrix of its ellipsoid (unit volume) and its core radius in mm."""

    centre: tuple[float, float, float]
    axes: Floats
    radius: float
    side: float
    """Sign of the hemisphere, or 0 where it may cross the midline (a butterfly)."""

    def distance(self, points: Points) -> Floats:
        """Return mm from the centre in the ellipsoid's own metric [N]."""
        offset = points.coordinates() - np.asarray(self.centre, dtype=np.float32)[:, None]
        squares = np.zeros(offset.shape[1], dtype=np.float32)
        for row in self.axes:
            squares += np.square(offset[0] * row[0] + offset[1] * row[1] + offset[2] * row[2])
        return np.sqrt(squares)


def place_foci(
    rng: np.random.Generator, survey: Points, tissue: Tissue, radius: float, count: int
) -> tuple[Focus, ...]:
    """Choose centres in white or grey matter, off the surface, the ventricles and the midline."""
    places = survey.coordinates()
    lateral = np.abs(tissue.lateral)
    allowed = (tissue.depth > min(6 + 0.35 * radius, 18)) & (tissue.csf < 0.3) & (tissue.ventricle > 2)
    allowed &= (tissue.height > 38) & (lateral > min(8 + 0.5 * radius, 18))
    first = _pick(rng, places, allowed, tissue)
    centres = [places[:, first]]
    if count == 2:
        gap = np.linalg.norm(places - centres[0][:, None], axis=0)
        ring = allowed & (gap > 1.5 * radius + 12) & (gap < 1.5 * radius + 45)
        if ring.any():
            centres.append(places[:, _pick(rng, places, ring, tissue)])
    butterfly = rng.random() < 0.08
    sides = [0.0 if butterfly else float(np.sign(tissue.lateral[first]))] * len(centres)
    if len(centres) == 2:
        sides = [0.0, 0.0]
    sizes = (radius, radius * 0.62)[: len(centres)]
    return tuple(
        Focus((float(c[0]), float(c[1]), float(c[2])), _ellipsoid(rng), float(size), side)
        for c, size, side in zip(centres, sizes, sides, strict=True)
    )


def _pick(
    rng: np.random.Generator,
    places: Floats,
    allowed: Bools,
    tissue: Tissue,
) -> int:
    """Return the index of one allowed place, white matter three times as likely."""
    weights = np.where(allowed, 0.5 + tissue.white, 0).astype(np.float64)
    return int(rng.choice(places.shape[1], p=weights / weights.sum()))


def _ellipsoid(rng: np.random.Generator) -> Floats:
    """Return a matrix that maps an offset in mm to the unit ball of a random ellipsoid of volume one."""
    lengths = np.exp(rng.normal(0, 0.2, 3))
    lengths /= np.cbrt(lengths.prod())
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return (turn / lengths[:, None]).astype(np.float32)
