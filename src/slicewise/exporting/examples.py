"""Generated inputs of the comparison: odd sizes, flat and extreme images, noise, subsets of modalities."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.data.store import StoredCase
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.prepared_case import PreparedCase

_SMALLEST: Final = 16
_MAX_SLICES: Final = 4
_SPOTS: Final = 3
_TEXTURE: Final = 6
"""Waves of the texture of a head"""
_SCALES: Final = (1.0, 1e-6, 1e6, 3e37, 255.0, 32767.0, 65535.0)
"""Largest intensities: of fractions and of integers, almost underflow and almost overflow of fp32"""
_TYPES: Final[Mapping[float, str]] = {255.0: "uint8", 32767.0: "int16", 65535.0: "uint16"}


@dataclass(frozen=True)
class Example:
    """A case to predict on, and what it is called in messages."""

    name: str
    case: StoredCase | NDArray[Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, pipeline: Pipeline) -> PreparedCase:
        """Return what the model of a pipeline is given.

        Raises:
            DataError: the pipeline refuses it.
        """
        return pipeline.prepare(self.case, **self.options)


def generate(
    channels: Sequence[str],
    size: int,
    count: int,
    *,
    start: int = 0,
    pictures_only: bool = False,
    seed: int = 0,
) -> Iterator[Example]:
    """Yield the examples from `start` to `count` for a model of these channels and slices of `size` pixels.

    Every fourth is a picture, the others are volumes of up to four slices with one subset of the channels
    after the other. Number i depends on `seed` and i alone.
    """
    subsets = [*chain.from_iterable(combinations(channels, number + 1) for number in range(len(channels)))]
    kinds = list(_KINDS)
    for number in range(start, count):
        rng = np.random.default_rng([seed, number])
        kind, scale = kinds[number % len(kinds)], _SCALES[number // len(kinds) % len(_SCALES)]
        rows, cols = (int(side) | 1 for side in rng.integers(_SMALLEST, 2 * size, 2))
        name = f"generated input {number} ({kind}, up to {scale:g}, {rows} x {cols}"
        if pictures_only or number % 4 == 0:
            image = _scaled(_KINDS[kind](rng, (rows, cols)), scale)
            yield Example(f"{name})", image)
            continue
        subset, shape = subsets[number % len(subsets)], (int(rng.integers(1, _MAX_SLICES + 1)), rows, cols)
        slices = [[_KINDS[kind](rng, shape[1:]) for _ in range(shape[0])] for _ in subset]
        spacing = tuple(rng.uniform(0.5, 2.0, 3).tolist())
        images = _scaled(np.array(slices), scale)
        options = {"channels": subset, "spacing": spacing}
        yield Example(f"{name}, {shape[0]} slices of {' '.join(subset)})", images, options)


def _scaled(images: NDArray[np.float64], scale: float) -> NDArray[Any]:
    return (images * scale).astype(_TYPES.get(scale, "float32"))


def _grid(shape: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, cols = shape
    return np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, cols), indexing="ij")


def _head(rng: np.random.Generator, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return 0 to 1: an ellipse with texture, bright spots and noise on black."""
    y, x = _grid(shape)
    image = np.full(y.shape, 0.5)
    for frequency, angle, phase in rng.uniform((1, 0, 0), (9, np.pi, 7), (_TEXTURE, 3)):
        image += 0.05 * np.sin(frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    for down, right, width in rng.uniform((-0.5, -0.5, 0.02), (0.5, 0.5, 0.3), (_SPOTS, 3)):
        image += rng.uniform(-0.4, 0.5) * np.exp(-((y - down) ** 2 + (x - right) ** 2) / width**2)
    image += rng.normal(0, 0.03, image.shape)
    height, width = rng.uniform(0.4, 1.1, 2)
    return np.where((y / height) ** 2 + (x / width) ** 2 < 1, image.clip(0.02, 1), 0.0)


def _noise(rng: np.random.Generator, shape: Sequence[int]) -> NDArray[np.float64]:
    return rng.random(tuple(shape))


def _flat(rng: np.random.Generator, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return one grey inside an ellipse, or everywhere."""
    inside = _head(rng, shape) > 0
    return np.where(inside | (rng.random() < 1 / _SPOTS), rng.uniform(0.1, 1), 0.0)


def _sparse(rng: np.random.Generator, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return a few bright pixels on black."""
    return np.where(rng.random(tuple(shape)) < rng.uniform(0.001, 0.05), rng.random(tuple(shape)), 0.0)


def _steps(rng: np.random.Generator, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return a chessboard of black and white."""
    y, x = np.indices(tuple(shape)) // int(rng.integers(1, 9))
    return np.where((y + x) % 2, 1.0, 0.0)


_KINDS: Final = {"head": _head, "noise": _noise, "flat": _flat, "sparse": _sparse, "steps": _steps}
