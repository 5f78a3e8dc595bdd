"""The normalisation of intensities that preprocessing and prediction share.

Every channel is normalised by itself and is 0 outside the foreground. With x of the file, p and q the clip
percentiles of x inside the foreground, and c = min(max(x, p), q):

    zscore_foreground    (c - mean(c)) / std(c), both inside the foreground (Isensee 2021)
    percentile           (c - p) / (q - p)
    unit                 (x - a) / (b - a), a and b the bounds of an unsigned type, else of x inside
    imagenet             (u - mean) / std, u of `unit`, mean and std of ImageNet: those of red, green and blue
                         for three channels, else their averages

What is exactly 0 counts as outside, so `percentile` and `unit` return at least 2^-14 inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema.data import Intensity
from slicewise.imaging.foreground import sample_voxels

_IMAGENET: Final = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
"""Mean and standard deviation of red, green and blue in 0..1"""
_SMALLEST: Final = np.float32(2**-14)
"""Smallest normal number of float16, in which slices are stored"""


@dataclass(frozen=True)
class Scaling:
    """How one channel's raw intensities are normalised: clipped, minus `mean`, divided by `std`."""

    low: float
    high: float
    mean: float
    std: float
    above_0: bool = False
    """Whether every value inside is above 0"""

    @classmethod
    def fit(cls, values: NDArray[Any], clip_percentiles: tuple[float, float]) -> Self:
        """Return the z-score of values; percentiles in per cent."""
        # Small integers are sorted by radix if stability is asked for, ten times as fast.
        ordered = np.sort(values, kind="stable" if values.itemsize <= 2 else None).astype(np.float64)
        low, high = (ordered[round((len(ordered) - 1) * share / 100)] for share in clip_percentiles)
        ordered = ordered.clip(low, high)
        return cls(float(low), float(high), float(ordered.mean()), float(ordered.std()))

    def apply(self, image: NDArray[Any], inside: NDArray[Any]) -> NDArray[np.float32]:
        """Return the normalised image, 0 where `inside` (bool, or 0 and 1) is 0.

        A constant image becomes (almost) 0.
        """
        scaled = image.astype(np.float32)
        np.maximum(scaled, np.float32(self.low), out=scaled)
        np.minimum(scaled, np.float32(self.high), out=scaled)
        scaled -= np.float32(self.mean)
        scaled *= np.float32(1 / self.std if self.std > 0 else 0)
        if self.above_0:
            np.maximum(scaled, _SMALLEST, out=scaled)
        scaled *= inside
        return scaled


def compute_scaling(
    images: NDArray[Any],
    inside: NDArray[np.bool_],
    presence: Sequence[bool],
    clip_percentiles: tuple[float, float],
    intensity: Intensity = "zscore_foreground",
) -> tuple[Scaling | None, ...]:
    """Return each channel's scaling from (evenly spaced) voxels inside; None for an empty one.

    Args:
        images: [channel, slice, row, col].
        inside: [slice, row, col] as from `foreground`; at least one voxel.
        presence: [channel], which of them hold an image.
        clip_percentiles: low and high, in per cent.
        intensity: `preprocessing.intensity`.
    """
    voxels = sample_voxels(inside)
    averages = np.mean(_IMAGENET, axis=0).tolist()
    statistics = _IMAGENET if len(images) == len(_IMAGENET) else [averages] * len(images)
    return tuple(
        _fit(image.ravel()[voxels], clip_percentiles, intensity, *imagenet) if there else None
        for image, there, imagenet in zip(images, presence, statistics, strict=True)
    )


def _fit(
    values: NDArray[Any], clip_percentiles: tuple[float, float], intensity: Intensity, mean: float, std: float
) -> Scaling:
    """Return the scaling of a channel; `mean` and `std` are ImageNet's."""
    zscore = Scaling.fit(values, clip_percentiles)
    if intensity == "zscore_foreground":
        return zscore
    if intensity == "percentile":
        low, high = zscore.low, zscore.high
    elif values.dtype.kind == "u":
        low, high = 0.0, float(np.iinfo(values.dtype).max)
    else:
        low, high = float(values.min()), float(values.max())
    if intensity == "imagenet":
        return Scaling(low, high, low + mean * (high - low), std * (high - low))
    return Scaling(low, high, low, high - low, above_0=True)
