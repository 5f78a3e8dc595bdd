"""A small head that tests can compute on paper: an ellipsoid brain with an ellipsoid tumour in two parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Preprocessing
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES, Modality
from slicewise.imaging.intensity import compute_scaling
from slicewise.imaging.volume import Volume, read_nifti_case

SHAPE = (20, 72, 60)
KEY = CaseKey("toy", "p1", "c1")
LPS = np.array([[-1.0, 0, 0, 30], [0, -1, 0, 40], [0, 0, 2, -20], [0, 0, 0, 1]])
"""Voxels of 2 x 1 x 1 mm whose rows and columns already run as SliceWise shows them."""


def settings(**changes: Any) -> Preprocessing:
    values: dict[str, Any] = {
        "channels": MODALITIES,
        "intensity": "zscore_foreground",
        "crop": "brain",
        "fit": "resize",
        "image_size": 64,
        "clip_percentiles": (0.5, 99.5),
        "crop_margin": 0.05,
        "min_brain_fraction": 0.1,
        "healthy_ratio": 1.0,
        "max_train_slices": 64,
    }
    return Preprocessing(**(values | changes))


def ball(
    centre: tuple[float, float, float], radii: tuple[float, float, float], shape: tuple[int, int, int] = SHAPE
) -> NDArray[np.bool_]:
    grid = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    distance = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True))
    return np.asarray(distance <= 1)


def brain() -> NDArray[np.bool_]:
    return ball((10, 36, 30), (9, 30, 24))


def tumour() -> NDArray[np.uint8]:
    mask = np.where(ball((11, 30, 22), (5, 11, 9)), 2, 0)
    mask[ball((11, 30, 22), (3, 5, 4))] = 3
    return mask.astype(np.uint8)


def images(seed: int = 0) -> NDArray[np.int16]:
    rng = np.random.default_rng([seed])
    noise = rng.normal(0, 20, (4, *SHAPE))
    levels = np.array([300, 400, 500, 600]).reshape(4, 1, 1, 1)
    return np.asarray((levels + 200 * (tumour() > 0) + noise).clip(1) * brain(), np.int16)


def normalise(
    images: NDArray[Any],
    inside: NDArray[np.bool_],
    presence: Sequence[bool],
    clip_percentiles: tuple[float, float],
) -> NDArray[np.float32]:
    """Return z-scores [4, slice, row, col], 0 outside and in empty slots."""
    result = np.zeros(images.shape, np.float32)
    for slot, scaling in enumerate(compute_scaling(images, inside, presence, clip_percentiles)):
        if scaling is not None:
            result[slot] = scaling.apply(images[slot], inside)
    return result


def volume(**changes: Any) -> Volume:
    values: dict[str, Any] = {
        "key": KEY,
        "images": images(),
        "presence": (True, True, True, True),
        "mask": tumour(),
        "label": None,
        "spacing": (2.0, 1.0, 1.0),
        "orientation": None,
    }
    return Volume(**(values | changes))


def write_nifti(path: Path, view: NDArray[Any], affine: NDArray[Any] = LPS) -> Path:
    """Write an array [slice, row, col] whose file axes run LPS."""
    nib.Nifti1Image(np.ascontiguousarray(view.T), affine).to_filename(path)
    return path


def dice(first: NDArray[Any], second: NDArray[Any]) -> float:
    a, b = first != 0, second != 0
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def read_volume(paths: Mapping[Modality, Path]) -> Volume:
    """Read the modalities of one examination."""
    return read_nifti_case(KEY, tuple(paths), tuple(paths.values()), None)
