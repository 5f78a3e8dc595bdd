"""Skull stripping of raw scans by deepbet (Fisch et al. 2024), whose weights lie in its package."""

import importlib.util
import warnings
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import DataError, UsageError
from slicewise.imaging.volume import Volume

if TYPE_CHECKING:
    from deepbet.bet import BrainExtraction

_PREFERRED: Final = ("t1", "t1ce", "flair", "t2")
"""deepbet was trained on T1"""
_THRESHOLD: Final = 0.5
_BRAIN_ML: Final = (700.0, 2200.0)
"""Smallest and largest brain of an adult, with cerebrospinal fluid"""
_MM3_PER_ML: Final = 1000.0


def strip_skull(volume: Volume) -> Volume:
    """Return a volume whose voxels outside the brain are 0; the mask comes from T1 where there is one.

    The modalities must lie on one grid and be registered, as `Volume` has them.

    Raises:
        DataError: it is a picture, or no brain is found in it.
        UsageError: deepbet is not installed.
    """
    if volume.shape[0] == 1:
        raise DataError(f"{volume.key.case}: --skull-strip is for volumes; a picture has one slice")
    filled = dict(zip(volume.channels, volume.presence, strict=True))
    name = next((name for name in _PREFERRED if filled.get(name)), None)
    if name is None:
        raise DataError(f"{volume.key.case}: --skull-strip needs one of {', '.join(_PREFERRED)}")
    inside = _brain(volume.images[volume.channels.index(name)].astype(np.float32))
    millilitres = float(np.count_nonzero(inside)) * float(np.prod(volume.spacing)) / _MM3_PER_ML
    remark = f"skull-stripped by deepbet {version('deepbet')} on {name}: a brain of {millilitres:,.0f} ml"
    low, high = _BRAIN_ML
    if not low <= millilitres <= high:
        remark += f", and brains have {low:,.0f} to {high:,.0f}: look at the overlay"
    return replace(volume, images=volume.images * inside, remarks=(*volume.remarks, remark))


def _brain(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the mask of the brain on the grid of [slice, row, col].

    deepbet expects axes towards the right, anterior and superior.
    """
    extraction = _load()
    to_ras = np.ascontiguousarray(image[:, ::-1, ::-1].transpose(2, 1, 0))
    try:
        inside = extraction.postprocess(extraction.run_model(to_ras) > _THRESHOLD)
    except (AssertionError, ValueError) as error:  # of an empty mask
        raise DataError(
            f"deepbet finds no brain in this volume ({error}); leave --skull-strip out"
        ) from error
    mask: NDArray[Any] = np.asarray(inside, np.bool_).transpose(2, 1, 0)[:, ::-1, ::-1]
    return mask


@lru_cache(maxsize=1)
def _load() -> "BrainExtraction":
    if importlib.util.find_spec("deepbet") is None:
        raise UsageError('skull stripping needs the package deepbet: pip install "slicewise[raw]"')
    from deepbet.bet import BrainExtraction

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its weights are TorchScript, which torch deprecates
        return BrainExtraction(no_gpu=True)
