"""A virtual patient's brain: an atlas under a random affine map, a smooth deformation and mass effect.

The atlas is the MNI152 maps that nilearn ships (ICBM 2009a nonlinear symmetric, Fonov 2011). The files are
read directly, since importing nilearn would also import scikit-learn and pandas. Arrays are
[slice, row, col] in the order of a BraTS file: slice up, row towards posterior, col towards left.
"""

from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from slicewise.core.errors import DataError
from slicewise.data.phantom.fields import Bools, Bytes, Field, Floats, Points, bump, smoothstep
from slicewise.imaging.nib import nib

Doubles = np.ndarray[Any, np.dtype[np.float64]]

_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
MIDLINE_COL = 98
"""Column of the mid-sagittal plane."""
_PATIENT_CENTRE = (76.0, 128.0, 119.5)
_ATLAS_CENTRE = (77.0, 115.0, float(MIDLINE_COL))
_FAR = 30_000
"""More than the square of any distance in voxels"""
_ROW = 256
"""Points are sampled as pictures of so many columns."""
_TEMPLATE_EXCESS = 1.09
"""MNI152 is larger than the SRI24 space of BraTS."""


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

    @cached_property
    def signals(self) -> "Maps":
        """T1, grey and white, in 0..1."""
        return Maps(self.t1, self.grey, self.white)

    @cached_property
    def distances(self) -> "Maps":
        """Depth, head and ventricle."""
        return Maps(self.depth, self.head, self.ventricle)


class Maps:
    """Three maps of one shape, sampled together as the channels of a picture. Bytes become 0..1.

    The picture has every second slice on the left, below each other, and the slices above these on the
    right: OpenCV takes pictures of up to 32,767 rows.
    """

    def __init__(self, *maps: np.ndarray[Any, Any]) -> None:
        self.shape = slices, rows, cols = maps[0].shape
        self._bytes = maps[0].dtype == np.uint8
        kind, factor = (np.uint16, 257) if self._bytes else (np.float32, 1)
        picture = np.zeros((-(-slices // 2), rows, 2, cols, 4), kind)  # OpenCV is quickest with four channels
        for channel, part in enumerate(maps):
            for odd in (0, 1):
                half = part[odd::2]
                np.multiply(half, kind(factor), out=picture[: len(half), :, odd, :, channel])
        self._picture = picture.reshape(-1, 2 * cols, 4)

    def at(self, place: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the maps [N] at voxel coordinates [3, N], trilinear; outside as at the border."""
        z, y, x = (np.clip(part, 0, size - 1) for part, size in zip(place, self.shape, strict=True))
        below = np.minimum(np.floor(z), self.shape[0] - 2)
        z -= below
        lower, upper = (np.asarray(self._slice(each, y, x).T, np.float32) for each in (below, below + 1))
        upper -= lower
        upper *= z
        lower += upper
        if self._bytes:
            lower *= np.float32(1 / 65535)
        return lower[0], lower[1], lower[2]

    def _slice(self, slices: Floats, y: Floats, x: Floats) -> np.ndarray[Any, Any]:
        """Return [N, 4] within whole slices."""
        _, rows, cols = self.shape
        half = np.floor(slices * np.float32(0.5))
        right = slices - 2 * half
        target = np.zeros((2, y.size // _ROW + 1, _ROW), np.float32)
        flat = target.reshape(2, -1)[:, : y.size]
        np.add(x, right * cols, out=flat[0])
        np.add(y, half * rows, out=flat[1])
        across, down = target
        sampled = cv2.remap(self._picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(sampled.reshape(-1, 4)[: y.size])


def _read(name: str) -> Bytes:
    spec = find_spec("nilearn")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "datasets" / "data" / _FILE.format(name)
        if path.is_file():
            ras: Bytes = np.asanyarray(nib.load(path).dataobj)
            return np.ascontiguousarray(ras[::-1, ::-1, :].T, dtype=np.uint8)
    raise DataError(f"{_FILE.format(name)} is not in the installed nilearn; run: pip install -U nilearn")


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
    closed = _eroded(_distance(~padded) < 8.5, 8)[12:-12, 12:-12, 12:-12]
    head = _smoothed(_signed_distance(closed | brain), 2.5)
    ventricle = -_signed_distance(_ventricles(t1[half], depth))
    return Atlas(t1, grey, white, depth, head, ventricle)


def _signed_distance(inside: Bools) -> Floats:
    """Return mm to the border, positive inside, for a mask sampled every 2 mm."""
    distance = _distance(inside) - _distance(~inside)
    return distance * 2 - np.sign(distance)


def _distance(inside: Bools) -> Floats:
    """Return how many voxels each one inside is from the nearest outside: exact, from those in each slice."""
    squares = np.full(inside.shape, _FAR, np.uint16)
    for index, mask in enumerate(inside):
        if not mask.all():
            flat = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            squares[index] = np.rint(np.square(flat))
    nearest, reach = squares.copy(), 1
    while reach < len(squares) and reach**2 < nearest.max():
        for to, other in ((nearest[reach:], squares[:-reach]), (nearest[:-reach], squares[reach:])):
            np.minimum(to, other + np.uint16(reach**2), out=to)
        reach += 1
    return np.sqrt(nearest, dtype=np.float32)


def _eroded(mask: Bools, times: int) -> Bools:
    """Clear the voxels with a face on the border, so many times."""
    for _ in range(times):
        inner = np.zeros_like(mask)
        inner[1:-1, 1:-1, 1:-1] = mask[1:-1, 1:-1, 1:-1]
        for axis in range(3):
            near, far = ((slice(None),) * axis + (span,) for span in (np.s_[1:], np.s_[:-1]))
            inner[near] &= mask[far]
            inner[far] &= mask[near]
        mask = inner
    return mask


def _smoothed(volume: Floats, sigma: float) -> Floats:
    """Return a volume filtered by a Gaussian."""
    size = 2 * int(4 * sigma + 0.5) + 1
    planes = np.stack(
        [cv2.GaussianBlur(plane, (size, size), sigma, borderType=cv2.BORDER_REFLECT) for plane in volume]
    )
    flat = cv2.GaussianBlur(
        planes.reshape(len(planes), -1), (1, size), 0, sigmaY=sigma, borderType=cv2.BORDER_REFLECT
    )
    return np.asarray(flat.reshape(volume.shape))


def _ventricles(t1: Bytes, depth: Floats) -> Bools:
    """Return the lateral and third ventricles (2 mm): dark and deep, but no fissure, cistern or insula."""
    z, y, x = np.ogrid[: t1.shape[0], : t1.shape[1], : t1.shape[2]]
    y = y - 10
    lateral = np.abs(x * 2 - MIDLINE_COL)
    central = (z > 27) & (z < 50) & (y > 22) & (y < 72) & (lateral < np.where(y < 46, 28, 40))
    fissure = (lateral < 5) & ((y < 30) | (y > 46) | (z > 44))
    dark = (t1 > 0) & (t1 < 125) & (depth > 14)
    return np.asarray(dark & central & ~fissure)


@dataclass(frozen=True)
class Push:
    """Tissue displaced away from a growing mass (mm, voxel coordinates of the patient)."""

    centre: tuple[float, float, float]
    radius: float
    strength: float


class Warp:
    """Patient coordinates to atlas coordinates, drawn at random."""

    def __init__(self, rng: np.random.Generator) -> None:
        angles = np.deg2rad(rng.normal(0, (3.0, 2.5, 4.0)))
        scale = _TEMPLATE_EXCESS * np.exp(rng.normal(0, 0.028) + rng.normal(0, 0.022, 3))
        self.matrix = (_rotation(angles) * scale).astype(np.float32)
        self.shift = (np.asarray(_ATLAS_CENTRE) + rng.normal(0, (2.0, 2.5, 1.5))).astype(np.float32)
        self.coarse, self.fine = ([Field(rng, spacing) for _ in range(3)] for spacing in (44, 13))
        self.coarse_mm, self.fine_mm = (float(rng.uniform(*span)) for span in ((2.0, 4.5), (0.6, 1.3)))

    def at(self, points: Points, pushes: tuple[Push, ...] = ()) -> Floats:
        """Return atlas coordinates float32 [3, N] of the points."""
        place = points.coordinates()
        for push in pushes:  # sampled nearer to the centre, tissue appears pushed outwards
            offset = place - np.asarray(push.centre, dtype=np.float32)[:, None]
            reach = np.float32(1.6 * push.radius)
            place -= offset * (np.float32(push.strength) * np.exp(-np.square(offset / reach).sum(axis=0)))
        place -= np.asarray(_PATIENT_CENTRE, dtype=np.float32)[:, None]
        atlas = np.empty_like(place)
        for axis in range(3):
            row = self.matrix[axis]
            np.multiply(place[0], row[0], out=atlas[axis])
            atlas[axis] += place[1] * row[1] + place[2] * row[2] + self.shift[axis]
            atlas[axis] += self.coarse[axis].at(points) * np.float32(self.coarse_mm)
            atlas[axis] += self.fine[axis].at(points) * np.float32(self.fine_mm)
        return atlas


def _rotation(angles: Doubles) -> Doubles:
    """Return the product of rotations about the three axes (radians)."""
    total = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = [a for a in range(3) if a != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        total = turn @ total
    return total


@dataclass(frozen=True)
class Tissue:
    """Tissue at N points: fractions in 0..1 that sum to 1 inside the brain, and distances in mm."""

    csf: Floats
    grey: Floats
    white: Floats
    shade: Floats
    depth: Floats
    head: Floats
    ventricle: Floats
    lateral: Floats
    """Signed distance from the mid-sagittal plane."""
    height: Floats
    """Atlas slice."""

    def take(self, keep: Bools) -> "Tissue":
        return Tissue(*(getattr(self, field.name)[keep] for field in fields(self)))


class Brain:
    """A patient's healthy anatomy as functions of position; `atrophy` (mm) widens ventricles and sulci."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.warp = Warp(rng)
        self.folds, self.borders = Field(rng, 9), Field(rng, 6)
        self.atrophy = float(rng.gamma(2.0, 0.5))

    def depth(self, points: Points, pushes: tuple[Push, ...] = ()) -> Floats:
        """Return mm below the brain's surface [N], cheaply."""
        return _distances(self.warp.at(points, pushes))[0]

    def at(self, points: Points, pushes: tuple[Push, ...] = (), floor: float = -1e6) -> tuple[Points, Tissue]:
        """Return those of the points that lie deeper than `floor` mm, and the tissue there."""
        atlas = load_atlas()
        place = self.warp.at(points, pushes)
        depth, head, ventricle = _distances(place)
        keep = np.flatnonzero(depth > floor)
        points, place = points.narrow(depth > floor), place.take(keep, axis=1)
        depth, head, ventricle = (part.take(keep) for part in (depth, head, ventricle))
        t1, grey, white = atlas.signals.at(place)
        csf = self._csf(points, t1, depth, ventricle)
        whiteness = smoothstep(white - grey + 0.12 * self.borders.at(points), -0.55, 0.55) * (1 - csf)
        shade = np.clip(t1 - (0.70 + 0.22 * white), -0.15, 0.15)
        lateral = place[2] - np.float32(MIDLINE_COL)
        tissue = Tissue(csf, 1 - csf - whiteness, whiteness, shade, depth, head, ventricle, lateral, place[0])
        return points, tissue

    def _csf(self, points: Points, t1: Floats, depth: Floats, ventricle: Floats) -> Floats:
        """Return the CSF fraction: ventricles, fissures and cisterns, and sulci between the folds."""
        inner = smoothstep(ventricle, self.atrophy + 0.6, self.atrophy - 0.9)
        dark = smoothstep(t1, 0.60 + 0.02 * self.atrophy, 0.42)
        near = smoothstep(depth, 16.0 + self.atrophy, 4.0)
        folds = self.folds.at(points)
        sulcus = bump(folds, 0.15 + 0.05 * self.atrophy) * near * smoothstep(t1, 0.90, 0.70)
        surface = smoothstep(depth + 0.5 * folds, 1.0 + 0.4 * self.atrophy, -1.0)
        return np.asarray(np.maximum(np.maximum(inner, dark), np.maximum(sulcus, surface)))


def _distances(place: Floats) -> tuple[Floats, Floats, Floats]:
    """Return depth, head and ventricle [N] at atlas coordinates; all -20 below the atlas."""
    values = load_atlas().distances.at(place * np.float32(0.5))
    below = place[0] < 0
    for part in values:
        part[below] = -20
    return values
