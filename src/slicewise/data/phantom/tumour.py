"""Tumours: one or two foci of nested compartments, as functions of position.

A focus is an irregular ellipsoid (the core) inside an oedema that follows white matter and stops at CSF. The
levels that give the drawn volumes are computed once on a coarse grid, so rendering stays pointwise.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from slicewise.data.phantom.anatomy import Push, Tissue
from slicewise.data.phantom.fields import Bools, Bytes, Field, Floats, Points, smoothstep

Kind = Literal["ring", "solid", "low_grade"]
_KIND_SHARES = (0.62, 0.25, 0.13)
_CORE_SHARES: dict[Kind, tuple[float, float]] = {
    "ring": (0.22, 0.6), "solid": (0.25, 0.65), "low_grade": (0.5, 0.85)
}  # fmt: skip
_TWO_FOCI = 0.12
_FILE_ENHANCING = 4


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


@dataclass(frozen=True)
class Compartments:
    """Soft fractions [N] in 0..1: `whole` contains `core`, and `rim` is the enhancing share of the core."""

    whole: Floats
    core: Floats
    rim: Floats

    def labels(self) -> Bytes:
        """Return labels [N] as BraTS 2021 writes them: 0, necrosis 1, oedema 2, enhancing 4."""
        core = self.core >= 0.5
        labels = np.where(core, 1, np.where(self.whole >= 0.5, 2, 0))
        return np.where(core & (self.rim >= 0.5), _FILE_ENHANCING, labels).astype(np.uint8)


@dataclass(frozen=True)
class Tumour:
    """All foci of a patient, and the fields that make them irregular."""

    kind: Kind
    foci: tuple[Focus, ...]
    millilitres: float
    outline: Field
    fingers: Field
    detail: Field
    rim_mm: float
    softness_mm: float
    strength: float
    """Mass effect: share of the way to the centre."""
    core_level: float = 1.0
    whole_level: float = 20.0

    @property
    def pushes(self) -> tuple[Push, ...]:
        return tuple(Push(focus.centre, focus.radius, self.strength) for focus in self.foci)

    def near(self, points: Points) -> Bools:
        """Return bool [N]: the points that a compartment can reach."""
        reach = np.float32(2.2 * self.whole_level)
        close = np.zeros(int(points.mask.sum()), dtype=bool)
        for focus in self.foci:
            close |= focus.distance(points) < max(float(reach), 2.5 * focus.radius)
        return close

    def at(self, points: Points, tissue: Tissue) -> Compartments:
        """Return the compartments at the points."""
        core_field, whole_field = self._fields(points, tissue)
        main = self.foci[0].radius
        core = smoothstep((np.float32(self.core_level) - core_field) * np.float32(main), -0.9, 0.9)
        soft = self.softness_mm
        whole = smoothstep(np.float32(self.whole_level) - whole_field, -soft, soft)
        whole *= 1 - smoothstep(_open_csf(tissue), 0.25, 0.75)
        rim = self._rim(points, core_field)
        inside = smoothstep(tissue.depth, -1.0, 0.5)
        return Compartments(np.maximum(whole, core) * inside, core * inside, rim)

    def calibrate(self, points: Points, tissue: Tissue, voxel_ml: float, core_ml: float) -> "Tumour":
        """Return the tumour with levels that give its core and whole volumes on these coarse points."""
        core_field, whole_field = self._fields(points, tissue)
        usable = tissue.depth > 0
        core_field = core_field[usable]
        count = max(1, round(core_ml / voxel_ml))
        core_level = float(np.partition(core_field, count)[count])
        blocked = (_open_csf(tissue)[usable] > 0.5) & (core_field >= core_level)
        ranked = np.where(core_field < core_level, -1, whole_field[usable])
        ranked = ranked[~blocked]
        count = max(count + 1, round(self.millilitres / voxel_ml))
        return replace(self, core_level=core_level, whole_level=float(np.partition(ranked, count)[count]))

    def _fields(self, points: Points, tissue: Tissue) -> tuple[Floats, Floats]:
        """Return a core field in units of its radius and an oedema field in mm; low is inside."""
        fingers = self.fingers.at(points)
        core = np.full(fingers.shape, 1e6, dtype=np.float32)
        whole = core.copy()
        for focus in self.foci:
            distance = focus.distance(points)
            np.minimum(core, distance / np.float32(focus.radius), out=core)
            if focus.side:
                distance += 2.0 * np.maximum(-np.float32(focus.side) * tissue.lateral, 0)
            np.minimum(whole, distance * np.float32(self.foci[0].radius / focus.radius), out=whole)
        ragged = 1 + 0.18 * self.outline.at(points) + 0.05 * fingers
        whole *= np.maximum(ragged, 0.65) * (1 + 0.2 * tissue.grey + 0.3 * tissue.csf)
        core += 0.12 * fingers + 0.04 * self.detail.at(points) + 0.5 * _open_csf(tissue)
        return core, whole

    def _rim(self, points: Points, core_field: Floats) -> Floats:
        """Return the enhancing share: a rim of varying depth with gaps, or most of a solid core."""
        if self.kind == "low_grade":
            return np.zeros_like(core_field)
        detail = self.detail.at(points)
        inward = (np.float32(self.core_level) - core_field) * np.float32(self.foci[0].radius)
        if self.kind == "solid":
            return smoothstep(detail - 0.05 * inward, -1.1, -0.5)
        depth = np.float32(self.rim_mm) * np.maximum(1 + 0.45 * detail + 0.35 * self.outline.at(points), 0.0)
        return smoothstep(depth - inward, -0.7, 0.7)


def _open_csf(tissue: Tissue) -> Floats:
    """Return the fraction of CSF that a tumour does not fill: ventricles and fissures; sulci are effaced."""
    deep = np.maximum(smoothstep(tissue.ventricle, 9, 4), smoothstep(np.abs(tissue.lateral), 6, 3))
    return np.asarray(tissue.csf * deep)


def draw_tumour(
    rng: np.random.Generator, survey: Points, tissue: Tissue, volume_range: tuple[float, float]
) -> tuple[Tumour, float]:
    """Draw a tumour in the parenchyma of the surveyed brain; also return the volume of its core in ml."""
    kind = [*_CORE_SHARES][int(rng.choice(3, p=_KIND_SHARES))]
    low, high = np.log(volume_range)
    millilitres = float(np.exp(rng.triangular(low, low + 0.85 * (high - low), high)))
    core_ml = millilitres * float(rng.uniform(*_CORE_SHARES[kind]))
    count = 2 if rng.random() < _TWO_FOCI and millilitres > 12 else 1
    radius = (core_ml * 1000 * 0.75 / np.pi / (1.25 if count == 2 else 1.0)) ** (1 / 3)
    foci = place_foci(rng, survey, tissue, radius, count)
    fields = Field(rng, 16), Field(rng, float(np.clip(radius * 0.6, 5, 11))), Field(rng, 4.5)
    rim_mm, softness_mm, strength = (
        float(rng.uniform(*span)) for span in ((1.6, 4.5), (0.3, 0.8), (0.15, 0.5))
    )
    return Tumour(kind, foci, millilitres, *fields, rim_mm, softness_mm, strength), core_ml


def place_foci(
    rng: np.random.Generator, survey: Points, tissue: Tissue, radius: float, count: int
) -> tuple[Focus, ...]:
    """Choose centres in white or grey matter, off the surface, the ventricles and the midline."""
    places = survey.coordinates()
    lateral = np.abs(tissue.lateral)
    allowed = (tissue.depth > min(6 + 0.35 * radius, 18)) & (tissue.csf < 0.3) & (tissue.ventricle > 2)
    allowed &= (tissue.height > 38) & (lateral > min(8 + 0.5 * radius, 18))
    first = _pick(rng, allowed, tissue)
    centres = [places[:, first]]
    if count == 2:
        gap = np.linalg.norm(places - centres[0][:, None], axis=0)
        ring = allowed & (gap > 1.5 * radius + 12) & (gap < 1.5 * radius + 45)
        if ring.any():
            centres.append(places[:, _pick(rng, ring, tissue)])
    butterfly = rng.random() < 0.08
    side = 0.0 if butterfly or len(centres) == 2 else float(np.sign(tissue.lateral[first]))
    return tuple(
        Focus((float(c[0]), float(c[1]), float(c[2])), _ellipsoid(rng), float(size), side)
        for c, size in zip(centres, (radius, radius * 0.62), strict=False)  # there may be one focus alone
    )


def _pick(rng: np.random.Generator, allowed: Bools, tissue: Tissue) -> int:
    """Return the index of one allowed point, white matter three times as likely."""
    weights = np.where(allowed, 0.5 + tissue.white, 0).astype(np.float64)
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def _ellipsoid(rng: np.random.Generator) -> Floats:
    """Return a matrix that maps an offset in mm to the unit ball of a random ellipsoid of volume one."""
    lengths = np.exp(rng.normal(0, 0.2, 3))
    lengths /= np.cbrt(lengths.prod())
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return (turn / lengths[:, None]).astype(np.float32)
