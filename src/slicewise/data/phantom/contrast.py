"""The four contrasts from tissue fractions: a table of signals, and a scanner with blur, bias and noise.

Signals are relative to white matter. The centres follow the usual appearance at 1.5 and 3 T; each
patient has a table of signals drawn around them.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from slicewise.data.phantom.anatomy import Tissue
from slicewise.data.phantom.atlas import Floats
from slicewise.data.phantom.fields import Field, Points
from slicewise.data.phantom.mimics import Extras
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


def draw_signals(rng: np.random.Generator) -> dict[Modality, dict[str, float]]:
    """Return the signal of each material in each contrast, relative to white matter."""
    shared = rng.normal(0, 1, len(_MATERIALS))
    signals: dict[Modality, dict[str, float]] = {}
    for modality in MODALITIES:
        own = 0.6 * shared + 0.8 * rng.normal(0, 1, len(_MATERIALS))
        values = np.asarray(_CENTRES[modality]) * np.exp(own * _SPREADS)
        signals[modality] = dict(zip(_MATERIALS, values.tolist(), strict=True))
    return signals


@dataclass(frozen=True)
class Scan:
    """How one contrast was acquired. Lengths in voxels; noise relative to white matter."""

    gain: float
    bias: Field
    bias_strength: float
    noise: float
    blur: float
    thickness: int
    """Slice thickness in mm; odd."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Scan":
        thickness = int(rng.choice((1, 3, 5), p=(0.65, 0.25, 0.10)))
        return cls(
            gain=float(np.exp(rng.normal(6.3, 0.9))),
            bias=Field.draw(rng, 80),
            bias_strength=float(rng.uniform(0.04, 0.16)),
            noise=float(rng.uniform(0.02, 0.06)),
            blur=float(rng.uniform(0.45, 0.85)),
            thickness=thickness,
        )


@dataclass(frozen=True)
class Textures:
    """Unit-variance fields [N] that texture the compartments: coarse and fine."""

    coarse: Floats
    fine: Floats


@dataclass(frozen=True)
class Scanner:
    """A patient's signals, textures and four acquisitions."""

    signals: dict[Modality, dict[str, float]]
    texture: Field
    grain: Field
    scans: dict[Modality, Scan]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Scanner":
        signals, texture, grain = draw_signals(rng), Field.draw(rng, 8), Field.draw(rng, 3.2)
        return cls(signals, texture, grain, {modality: Scan.draw(rng) for modality in MODALITIES})

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
        _lay_tumour(signal, table, tumour, textures)
        _lay(signal, extras.vessel, table["vessel"])
        _lay(signal, extras.dura, table["dura"])
        return signal

    def textures(self, points: Points) -> Textures:
        return Textures(self.texture.at(points), self.grain.at(points))

    def acquire(self, modality: Modality, points: Points, signal: Floats, rng: np.random.Generator) -> Floats:
        """Return the magnitude image float32 [Z, Y, X] of a signal [N]: bias, Rician noise, blur."""
        scan = self.scans[modality]
        shaded = signal * np.exp(np.float32(scan.bias_strength) * scan.bias.at(points))
        volume: Floats = points.grid(shaded)
        volume += _noise(rng, volume.shape, scan.noise)
        for plane in volume:
            cv2.GaussianBlur(plane, (5, 5), scan.blur, dst=plane)
        if scan.thickness > 1 and len(volume) > 1:
            flat = volume.reshape(len(volume), -1)
            cv2.blur(flat, (1, scan.thickness), dst=flat)
        magnitude: Floats = np.hypot(volume, _noise(rng, volume.shape, 0.5 * scan.noise))
        return magnitude * np.float32(scan.gain)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], level: float) -> Floats:
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise *= np.float32(level)
    return noise


def _lay(signal: Floats, fraction: Floats, value: Any) -> None:
    """Mix a material into `signal` in place, by its partial volume."""
    signal += fraction * (value - signal)


def _lay_tumour(signal: Floats, table: dict[str, float], tumour: Compartments, textures: Textures) -> None:
    """Mix oedema, through which the anatomy still shows, and the textured core into `signal`."""
    oedema = table["oedema"] * (1 + 0.09 * textures.coarse + 0.04 * textures.fine)
    _lay(signal, tumour.whole, 0.82 * oedema + 0.18 * table["oedema"] * signal)
    dead = table["necrosis"] * (1 + 0.12 * textures.coarse + 0.08 * textures.fine)
    _lay(signal, tumour.core, dead)
    live = table["enhancing"] * (1 + 0.12 * textures.coarse + 0.17 * textures.fine)
    _lay(signal, tumour.core * tumour.rim, live)
