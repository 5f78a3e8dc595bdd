"""From tissue to pictures: what resembles a tumour, skull and scalp, and a scanner with blur, bias and noise.

Signals are relative to white matter. The centres follow the usual appearance at 1.5 and 3 T; each
patient has a table of signals drawn around them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from slicewise.data.phantom.anatomy import Tissue
from slicewise.data.phantom.fields import Bools, Field, Floats, Points, bump, smoothstep
from slicewise.data.phantom.tumour import Compartments
from slicewise.domain.labels import MODALITIES, Modality

_MATERIALS = (
    "csf", "grey", "white", "oedema", "necrosis", "enhancing", "hyperintensity", "vessel", "plexus", "dura",
)  # fmt: skip
_CENTRES: dict[Modality, tuple[float, ...]] = {
    "t1": (0.42, 0.80, 1.0, 0.70, 0.54, 0.74, 0.86, 0.70, 0.66, 0.95),
    "t1ce": (0.42, 0.80, 1.0, 0.70, 0.52, 1.70, 0.86, 1.90, 1.45, 1.65),
    "t2": (2.80, 1.30, 1.0, 2.25, 2.35, 1.75, 1.55, 0.75, 2.10, 1.30),
    "flair": (0.38, 1.20, 1.0, 1.62, 1.12, 1.45, 1.75, 0.85, 1.00, 1.75),
}
_SPREADS = (0.12, 0.06, 0.0, 0.07, 0.18, 0.13, 0.08, 0.15, 0.12, 0.22)
"""Standard deviation of the logarithm, in the order of the materials."""
_DRAWN = 1 << 20
_BONE_AND_MARROW: dict[Modality, tuple[float, float]] = {
    "t1": (0.12, 0.55), "t1ce": (0.12, 0.60), "t2": (0.14, 0.60), "flair": (0.12, 0.40),
}  # fmt: skip
"""Relative to white matter."""
_FAT_AND_SKIN: dict[Modality, tuple[float, float]] = {
    "t1": (1.55, 0.75), "t1ce": (1.50, 0.95), "t2": (1.70, 0.90), "flair": (1.25, 0.80),
}  # fmt: skip


@dataclass(frozen=True)
class Extras:
    """Fractions [N] in 0..1 of what lies on top of the tissue."""

    hyperintensity: Floats
    vessel: Floats
    plexus: Floats
    dura: Floats


class Mimics:
    """A patient's tumour look-alikes as functions of position."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.patches, self.spots = Field(rng, 12), Field(rng, 7)
        self.branch, self.course = Field(rng, 15), Field(rng, 15)
        self.surface = Field(rng, 11)
        self.band_mm = min(float(rng.gamma(2.0, 1.2)), 6.0)
        self.spot_level = float(rng.uniform(2.0, 3.4))
        self.vessel_width = float(rng.uniform(0.08, 0.14))
        self.strip_mm = float(rng.uniform(-1.0, 1.5))
        self.scraps = float(rng.uniform(0.3, 4.0))

    def at(self, points: Points, tissue: Tissue) -> Extras:
        """Return the fractions at the points."""
        spots = self.spots.at(points)
        inside_ventricles = smoothstep(tissue.ventricle, 0.0, -1.0)
        lateral = smoothstep(np.abs(tissue.lateral), 5, 8)
        return Extras(
            self._hyperintensity(spots, points, tissue),
            self._vessels(points, tissue),
            plexus=inside_ventricles * lateral * smoothstep(spots, 0.5, 1.0),
            dura=smoothstep(tissue.head, -0.2, -1.2),
        )

    def skull_stripped(self, points: Points, tissue: Tissue) -> Bools:
        """Return bool [N]: what an imperfect skull stripping keeps, with some dura and scalp."""
        noise = self.surface.at(points)
        edge = self.strip_mm + 0.7 * noise - self.scraps * smoothstep(noise, 0.7, 1.6)
        return np.asarray(((tissue.depth > edge) | (tissue.head > 5)) & (tissue.height >= 0))

    def _hyperintensity(self, spots: Floats, points: Points, tissue: Tissue) -> Floats:
        """Return caps and bands along the ventricles, and small spots in deep white matter (Fazekas)."""
        width = np.maximum(self.band_mm * (1 + 0.5 * self.patches.at(points)), 0.3)
        band = smoothstep(tissue.ventricle - width, 1.2, -0.8)
        deep = smoothstep(tissue.depth, 9, 14)
        small = smoothstep(spots, self.spot_level - 0.35, self.spot_level + 0.15) * deep
        above = smoothstep(tissue.height, 62, 70)
        return np.asarray(np.maximum(band, small) * tissue.white * above)

    def _vessels(self, points: Points, tissue: Tissue) -> Floats:
        """Return tubes where two fields vanish together, near the surface and in cisterns, and the sinus."""
        radius = np.hypot(self.branch.at(points), self.course.at(points))
        where = np.maximum(smoothstep(tissue.depth, 15, 5), tissue.csf * smoothstep(tissue.height, 75, 60))
        tubes = bump(radius, self.vessel_width) * where
        top = smoothstep(tissue.head, 3.5, 1.0) * smoothstep(tissue.height, 55, 65)
        sinus = bump(tissue.lateral, 3.0) * top
        return np.asarray(np.maximum(tubes, sinus))


class Head:
    """A patient's skull and scalp; thicknesses in mm."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.waves, self.marrow = Field(rng, 45), Field(rng, 9)
        self.skull_mm = float(rng.uniform(4.5, 8.5))
        self.scalp_mm = float(rng.uniform(3.5, 8.0))
        self.fat = float(rng.uniform(0.5, 1.25))

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
        covered = signal.copy()
        _lay(covered, smoothstep(outside, -0.5, 0.5), inside_bone)
        _lay(covered, smoothstep(above, -0.5, 0.5), soft)
        _lay(covered, smoothstep(above - scalp, -0.5, 0.5), 0)
        return covered


def draw_signals(rng: np.random.Generator) -> dict[Modality, dict[str, float]]:
    """Return the signal of each material in each contrast, relative to white matter."""
    shared = rng.normal(0, 1, len(_MATERIALS))
    signals: dict[Modality, dict[str, float]] = {}
    for modality in MODALITIES:
        own = 0.6 * shared + 0.8 * rng.normal(0, 1, len(_MATERIALS))
        values = np.asarray(_CENTRES[modality]) * np.exp(own * _SPREADS)
        signals[modality] = dict(zip(_MATERIALS, values.tolist(), strict=True))
    return signals


class Scan:
    """How one contrast was acquired. Lengths in voxels of 1 mm; noise relative to white matter."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.thickness = int(rng.choice((1, 3, 5), p=(0.65, 0.25, 0.10)))
        self.gain = float(np.exp(rng.normal(6.3, 0.9)))
        self.bias = Field(rng, 80)
        self.bias_strength = float(rng.uniform(0.04, 0.16))
        self.noise = float(rng.uniform(0.02, 0.06))
        self.blur = float(rng.uniform(0.45, 0.85))


@dataclass(frozen=True)
class Textures:
    """Unit-variance fields [N] that texture the compartments: coarse and fine."""

    coarse: Floats
    fine: Floats


class Scanner:
    """A patient's signals, textures and four acquisitions."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.signals = draw_signals(rng)
        self.texture, self.grain = Field(rng, 8), Field(rng, 3.2)
        self.scans = {modality: Scan(rng) for modality in MODALITIES}

    def signal(
        self, modality: Modality, tissue: Tissue, extras: Extras, tumour: Compartments, textures: Textures
    ) -> Floats:
        """Return the noiseless signal [N], white matter about 1."""
        table = self.signals[modality]
        signal = tissue.csf * table["csf"] + tissue.grey * table["grey"] + tissue.white
        signal *= 1 + (0.6 if modality.startswith("t1") else -0.4) * tissue.shade
        signal *= 1 + 0.02 * textures.coarse + 0.025 * textures.fine
        _lay(signal, extras.hyperintensity, table["hyperintensity"])
        _lay(signal, extras.plexus, table["plexus"])
        # The anatomy still shows through oedema.
        oedema = table["oedema"] * (1 + 0.09 * textures.coarse + 0.04 * textures.fine)
        _lay(signal, tumour.whole, 0.82 * oedema + 0.18 * table["oedema"] * signal)
        dead = table["necrosis"] * (1 + 0.12 * textures.coarse + 0.08 * textures.fine)
        _lay(signal, tumour.core, dead)
        live = table["enhancing"] * (1 + 0.12 * textures.coarse + 0.17 * textures.fine)
        _lay(signal, tumour.core * tumour.rim, live)
        _lay(signal, extras.vessel, table["vessel"])
        _lay(signal, extras.dura, table["dura"])
        return signal

    def textures(self, points: Points) -> Textures:
        return Textures(self.texture.at(points), self.grain.at(points))

    def acquire(self, modality: Modality, points: Points, signal: Floats, rng: np.random.Generator) -> Floats:
        """Return the magnitude image float32 [Z, Y, X] of a signal [N]: bias, Rician noise, blur."""
        return self.expose(modality, points.grid(self.shade(modality, points, signal)), rng)

    def shade(self, modality: Modality, points: Points, signal: Floats) -> Floats:
        """Return a signal [N] under the uneven sensitivity of the coil."""
        scan = self.scans[modality]
        shaded: Floats = signal * np.exp(np.float32(scan.bias_strength) * scan.bias.at(points))
        return shaded

    def expose(self, modality: Modality, volume: Floats, rng: np.random.Generator) -> Floats:
        """Return the magnitude image of a shaded signal [Z, Y, X], which is overwritten."""
        scan = self.scans[modality]
        noise = _planes_of_noise(rng, volume.shape[1:], 2 * len(volume))
        for plane, drawn in zip(volume, noise, strict=False):  # the second half of the noise is used below
            plane += drawn * np.float32(scan.noise)
            cv2.GaussianBlur(plane, (5, 5), scan.blur, dst=plane)
        if scan.thickness > 1 and len(volume) > 1:
            flat = volume.reshape(len(volume), -1)
            cv2.blur(flat, (1, scan.thickness), dst=flat)
        for plane, drawn in zip(volume, noise, strict=True):
            imaginary = drawn * np.float32(0.5 * scan.noise)
            plane *= plane  # OpenCV's magnitude rounds by where an array lies in memory
            plane += np.square(imaginary, out=imaginary)
            np.sqrt(plane, out=plane)
            plane *= np.float32(scan.gain)
        return volume


def _planes_of_noise(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> Iterator[Floats]:
    """Yield planes of standard normal noise: random windows of a million draws, where more are needed.

    Drawing each value anew would take a quarter of the time of a patient.
    """
    size = math.prod(shape)
    drawn = rng.standard_normal(min(count * size, max(size, _DRAWN)), np.float32)
    for start in range(0, count * size, size):
        if start + size > len(drawn):
            start = int(rng.integers(len(drawn) - size + 1))
        yield drawn[start : start + size].reshape(shape)


def _lay(signal: Floats, fraction: Floats, value: Any) -> None:
    """Mix a material into `signal` in place, by its partial volume."""
    signal += fraction * (value - signal)
