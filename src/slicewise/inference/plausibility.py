"""What speaks against a case: it can be no brain MRI, or it is not what the model learned."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.labels import MODALITIES
from slicewise.domain.reference import SKULL_SHARE, TrainingReference
from slicewise.imaging.foreground import foreground
from slicewise.imaging.plausibility import judge
from slicewise.imaging.resize import resize_image
from slicewise.imaging.skull import SKULL, skull_contrast
from slicewise.imaging.slicing import SlicedCase
from slicewise.imaging.volume import Volume

_DISPLAY_ORDER: Final = ("flair", "t1ce", "t2", "t1")
_SLICES: Final = 5
_MIDDLE: Final = (0.35, 0.75)
"""Where these lie between the lowest and the highest slice: heads are largest there"""
_HEAD_MM: Final = (70.0, 320.0)
"""Smallest and largest side of a head, or of a brain, in an axial slice"""
_AIR_HU: Final = (-1100.0, -850.0)
"""Values of air in CT (Hounsfield units)"""
_AIR_SHARE: Final = 0.05
_STRIPPED_ZEROS: Final = 0.10
_SAME_BRAIN, _SAME_HEAD = 0.98, 0.80
"""Smallest Dice of the foregrounds of two modalities of one patient, skull-stripped and not. BraTS: at least
0.997 within a patient, at most 0.933 between patients"""
_MANY_STRIPPED: Final = 0.1
"""A model whose training cases have a skull in no larger share learned skull-stripped ones"""
_CLEAR_SKULL: Final = SKULL + 0.05


def find_doubts(volume: Volume, slices: SlicedCase, reference: TrainingReference | None) -> tuple[str, ...]:
    """Return what speaks against a case, as sentences; empty for other channels than those of MRI.

    Args:
        volume: the case as it was read.
        slices: the same as the model sees it.
        reference: the training cases of the model; None where it remembers none.
    """
    if not {*volume.channels} <= {*MODALITIES} or not len(slices.indices):
        return ()
    pages = _middle_slices(slices)
    doubts = [*_implausible(volume, pages), *_wrong_units(volume, pages)]
    if slices.geometry.shape[0] > 1:
        contrast = skull_contrast(slices.images, slices.presence)
        doubts += _different_heads(volume, pages, stripped=contrast < SKULL)
        doubts += [] if doubts else _with_skull(volume, contrast, reference)
    return tuple(doubts)


def _middle_slices(slices: SlicedCase) -> list[int]:
    """Return some slices of the volume between those at the ends of the head."""
    indices = slices.indices[slices.included] if slices.included.any() else slices.indices
    places = np.quantile(indices, np.linspace(*_MIDDLE, _SLICES), method="nearest")
    return sorted({int(place) for place in places})


def _implausible(volume: Volume, pages: Sequence[int]) -> Iterator[str]:
    names = dict(zip(volume.channels, zip(volume.images, volume.presence, strict=True), strict=True))
    image = next(names[name][0] for name in _DISPLAY_ORDER if name in names and names[name][1])
    verdicts = [judge(_in_proportion(image[page], volume.spacing), volume.colour) for page in pages]
    implausible = [verdict for verdict in verdicts if not verdict.is_plausible]
    if 2 * len(implausible) > len(verdicts):
        reasons = Counter(reason for verdict in implausible for reason in verdict.reasons)
        most = [reason for reason, _ in reasons.most_common(3)]
        yield f"this does not look like MRI of a brain ({', '.join(most)}): the prediction means nothing"


def _in_proportion(image: NDArray[Any], spacing: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return a slice with square pixels."""
    _, row_mm, col_mm = spacing
    smallest, (rows, cols) = min(row_mm, col_mm), image.shape
    size = max(1, round(rows * row_mm / smallest)), max(1, round(cols * col_mm / smallest))
    return resize_image(image.astype(np.float32), size)


def _wrong_units(volume: Volume, pages: Sequence[int]) -> Iterator[str]:
    """Yield whether a volume has the values of CT, or the size of no head."""
    if volume.orientation is None:
        return
    low, high = _AIR_HU
    for name, image, there in zip(volume.channels, volume.images, volume.presence, strict=True):
        values = image[pages[0]]
        if there and np.mean((values > low) & (values < high) & (values != values.min())) > _AIR_SHARE:
            yield f"the values of {name} are those of CT (Hounsfield units), not of MRI"
    inside = foreground(volume.images[:, pages], volume.presence).any(axis=0)
    sides = ("from front to back", "from side to side")
    for places, length, side in zip(np.nonzero(inside), volume.spacing[1:], sides, strict=True):
        extent = float(np.ptp(places)) * length if places.size else 0.0
        if places.size and not _HEAD_MM[0] <= extent <= _HEAD_MM[1]:
            yield (
                f"the head is {extent:.0f} mm long {side}, and heads have {_HEAD_MM[0]:.0f} to "
                f"{_HEAD_MM[1]:.0f} mm: check the voxel size in the header"
            )


def _different_heads(volume: Volume, pages: Sequence[int], *, stripped: bool) -> Iterator[str]:
    """Yield pairs of modalities whose heads, or skull-stripped brains, do not coincide."""
    heads: dict[str, NDArray[np.bool_]] = {}
    for name, image, there in zip(volume.channels, volume.images, volume.presence, strict=True):
        if there:
            part = image[pages]
            brain = stripped and np.mean(part == 0) >= _STRIPPED_ZEROS
            heads[name] = part != 0 if brain else foreground(part[None], [True])
    least = _SAME_BRAIN if stripped else _SAME_HEAD
    for first, second in combinations(heads, 2):
        one, other = heads[first], heads[second]
        total = np.count_nonzero(one) + np.count_nonzero(other)
        dice = 2 * np.count_nonzero(one & other) / total if total else 0.0
        if dice < least:
            yield (
                f"the heads in {first} and {second} do not coincide (Dice {dice:.2f}): they may be of "
                "different patients, or not registered to each other"
            )


def _with_skull(volume: Volume, contrast: float, reference: TrainingReference | None) -> Iterator[str]:
    """Yield whether a volume has a skull where the training cases had none."""
    learned = reference.appearance.get("volume") if reference else None
    if volume.orientation is None or learned is None or SKULL_SHARE not in learned.shares:
        return
    if learned.shares[SKULL_SHARE] <= _MANY_STRIPPED and contrast > _CLEAR_SKULL:
        yield (
            "this volume is not skull-stripped, and the model learned skull-stripped ones: strip it, for "
            "example by --skull-strip, or do not trust the prediction"
        )
