"""The normalisation that preprocessing and serving share.

Every modality is clipped to robust percentiles inside the head and brought to mean 0 and standard deviation 1
there (z-score, Isensee 2021); outside it is 0. Volumes and pictures, training and prediction use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from slicewise.imaging.foreground import sample_voxels


@dataclass(frozen=True)
class Scaling:
    """How one modality's raw intensities become z-scores."""

    low: float
    high: float
    mean: float
    std: float

    @classmethod
    def fit(cls, values: NDArray[Any], clip_percentiles: tuple[float, float]) -> Self:
        """Return the scaling of values; percentiles in per cent."""
        ordered = np.sort(values).astype(np.float64)
        low, high = (ordered[round((len(ordered) - 1) * share / 100)] for share in clip_percentiles)
        ordered = ordered.clip(low, high)
        return cls(float(low), float(high), float(ordered.mean()), float(ordered.std()))

    def apply(self, image: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the normalised image, 0 outside. A constant image becomes 0 everywhere."""
        scaled = image.astype(np.float32)
        np.clip(scaled, np.float32(self.low), np.float32(self.high), out=scaled)
        scaled -= np.float32(self.mean)
        scaled *= np.float32(1 / self.std if self.std > 0 else 0)
        scaled *= inside
        return scaled


def compute_scaling(
    images: NDArray[Any],
    inside: NDArray[np.bool_],
    presence: Sequence[bool],
    clip_percentiles: tuple[float, float],
) -> tuple[Scaling | None, ...]:
    """Return each channel's scaling from (evenly spaced) voxels inside; None for an empty one.

    Args:
        images: [channel, slice, row, col].
        inside: [slice, row, col] as from `foreground`; at least one voxel.
        presence: [channel], which of them hold an image.
        clip_percentiles: low and high, in per cent.
    """
    voxels = sample_voxels(inside)
    return tuple(
        Scaling.fit(image.ravel()[voxels], clip_percentiles) if there else None
        for image, there in zip(images, presence, strict=True)
    )
