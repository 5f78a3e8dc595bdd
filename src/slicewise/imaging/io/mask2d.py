"""The mask of a picture: the values that its file stores, and what they mean.

A PNG with a palette stores indices; its colours mean nothing. JPEG blurs: a mask of 0 and 255 has values
around both, and is cut in the middle; numbers of classes would be lost. Soft edges of other formats are cut
likewise.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from slicewise.core.errors import PictureError, VolumeError
from slicewise.domain.labels import LabelMap
from slicewise.imaging.io.image2d import open_picture
from slicewise.imaging.regions import erode

_LOSSY: Final = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF")
_FULL: Final = 255
_SOFT: Final = (64, 192)
"""Values of JPEG between these are neither 0 nor 255 with noise."""
_EDGE: Final = 1
_SOFT_SHARE: Final = 0.001
"""At most this share of the pixels lies within areas of such values; edges are thinner than `_EDGE`."""
_SOFT_PER_FULL: Final = 2
"""At most so many pixels of a soft edge per pixel inside"""
_GREYS: Final = 16
"""A mask with fewer values than this holds classes and has no soft edges."""
_EXTREME: Final = 0.1
"""Values this near to 0 and to the highest one, as a share of it, are those of a mask with soft edges."""
_MAX_CLASS: Final = 63
_SHOWN: Final = 12


def read_mask(path: Path) -> NDArray[np.uint16]:
    """Return the values of a mask [row, col], upright: as stored, or 0 and 255 where it has soft edges.

    Raises:
        PictureError: it cannot be read, has several colours, or its format changed its values.
    """
    with open_picture(path) as image:
        lossy = image.format in _LOSSY
        values = _stored(path, ImageOps.exif_transpose(image))
    if lossy:
        return _cut_lossy(path, values)
    high = values.max()
    if len(np.unique(values)) > _GREYS and not values.min():
        soft = np.count_nonzero((values > _EXTREME * high) & (values < (1 - _EXTREME) * high))
        if soft <= _SOFT_PER_FULL * np.count_nonzero(values >= (1 - _EXTREME) * high):
            return np.where(values > high / 2, np.uint16(_FULL), np.uint16(0))
    return values


def _stored(path: Path, image: Image.Image) -> NDArray[np.uint16]:
    if image.mode == "P":
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("1", "L", "LA") or image.mode.startswith(("I", "F")):
        values: NDArray[Any] = np.asarray(image.convert("L") if image.mode == "LA" else image)
        if values.min() < 0 or values.max() > np.iinfo(np.uint16).max or (values != np.rint(values)).any():
            raise PictureError(f"{path} holds values that are no numbers of classes; save them as 8-bit PNG")
        return values.astype(np.uint16)
    colours = np.asarray(image.convert("RGB"))
    brightest = colours.max(-1)
    spread = brightest - colours.min(-1)
    if spread.max() <= _GREYS:
        return colours[..., 0].astype(np.uint16)
    shades = np.unique(colours.reshape(-1, 3), axis=0)
    if len(shades) == 2 and not shades[0].any():  # black, and one colour
        return np.where(brightest > 0, np.uint16(_FULL), np.uint16(0))
    listed = ", ".join(str(tuple(shade)) for shade in shades[:4].tolist())
    raise PictureError(
        f"{path} has {len(shades)} colours (red, green, blue: {listed}{', ...' if len(shades) > 4 else ''}); "
        "save the number of the class in each pixel, as a grey PNG or one with a palette"
    )


def _cut_lossy(path: Path, values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    low, high = _SOFT
    if np.count_nonzero(erode((values > low) & (values < high), _EDGE)) > _SOFT_SHARE * values.size:
        raise PictureError(
            f"{path} is in a format that changes values, such as JPEG, and holds others than 0 and 255; save "
            "masks of several classes as PNG"
        )
    return np.where(values > _FULL // 2, np.uint16(_FULL), np.uint16(0))


def choose_labels(values: Mapping[int, Path], given: Mapping[str, int] | None, key: str) -> LabelMap:
    """Return the label of each value of the masks of a data set.

    Without `given` labels, values up to 63 are labels themselves, and one larger value is label 1.

    Args:
        values: those that occur, each with one of its files.
        given: `values` of the source's settings.
        key: that of the settings, for messages.

    Raises:
        VolumeError: a value has no label; lists the values and names the key to set.
    """
    present = sorted(values)
    if given is not None:
        known = {0: 0, **{int(value): label for value, label in given.items()}}
        if unknown := [value for value in present if value not in known]:
            raise VolumeError(
                f"masks such as {values[unknown[0]]} hold {_listed(unknown)}, which no class has; {key} has "
                f"{_listed([*known])}. Add them to it, with 0 where they are background"
            )
        return tuple(known.items())
    classes = [value for value in present if value]
    if not classes or classes[-1] <= _MAX_CLASS:
        return tuple((value, value) for value in present)
    if len(classes) == 1:
        return ((0, 0), (classes[0], 1))
    example = ",".join(f"{value}:{label}" for label, value in enumerate(classes[:_SHOWN], 1))
    raise VolumeError(
        f"masks hold {_listed(present)} (such as {values[classes[-1]]}), neither 0 and one other value nor "
        f"numbers of classes up to {_MAX_CLASS}; set {key}={{{example}}}, in the order of the classes and "
        "with 0 for what is background"
    )


def decode_mask(path: Path, values: NDArray[np.uint16], labels: LabelMap) -> NDArray[np.uint8]:
    """Return the labels [row, col] of the values of a mask.

    Raises:
        VolumeError: a value has none.
    """
    table = np.full(int(values.max()) + 1, -1, np.int16)
    for value, label in labels:
        if value < len(table):
            table[value] = label
    decoded = table[values]
    if (decoded < 0).any():
        unknown = np.unique(values[decoded < 0]).tolist()
        raise VolumeError(f"{path} holds {_listed(unknown)}, which no class has; index the data again")
    return decoded.astype(np.uint8)


def _listed(values: Collection[int]) -> str:
    shown = ", ".join(map(str, sorted(values)[:_SHOWN]))
    return shown if len(values) <= _SHOWN else f"{shown}, ... ({len(values)} values)"
