"""Generated pictures with masks: circles, ellipses, rectangles and polygons on texture with noise.

    train/images/train_0001.jpg     train/masks/train_0001.png     and likewise val and test

Each picture has two to four shapes that do not touch, in a brightness of its own. Masks of one class are 0
and 255; those of several store the number of the class, with a palette.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slicewise.config.schema.sources import ShapesSettings
from slicewise.core.console import progress
from slicewise.core.errors import DataError
from slicewise.core.files import atomic_write, read_json, sweep, write_json

KINDS: Final = ("circle", "ellipse", "rectangle", "polygon")
CLASSES_NAME: Final = "classes.json"
SUBSETS: Final = ("train", "val", "test")
_PALETTE: Final = (0, 0, 0, 230, 159, 0, 0, 158, 115, 204, 121, 167, 240, 228, 66)
"""Black, and the colours of Okabe and Ito (2008)"""
_QUALITY: Final = 92
_MIN_CONTRAST: Final = 45.0
"""Between the mean brightness of a shape and that of the background, of 255"""
_TRIES: Final = 40
Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]


def class_names(classes: int) -> tuple[str, ...]:
    """Return the names of the classes in the order of their numbers, from 1."""
    return KINDS[:classes] if classes > 1 else ("shape",)


def write_shapes(root: Path, settings: ShapesSettings) -> None:
    """Write the pictures and masks of a set that `root` does not hold yet, and a file that names the classes.

    Raises:
        DataError: the folder holds another set, or other files.
    """
    sweep(root, deep=True)
    _require_own_folder(root, settings)
    classes = {name: number for number, name in enumerate(class_names(settings.classes), 1)}
    description = {"classes": {"background": 0, **classes}, "settings": _identity(settings)}
    write_json(root / CLASSES_NAME, description)
    counts = (settings.train, settings.val, settings.test)
    wanted = [(place, number) for place, count in enumerate(counts) for number in range(count)]
    for place, number in progress(wanted, desc="Drawing shapes", unit="picture"):
        picture_path, mask_path = _paths(root, SUBSETS[place], number)
        if picture_path.is_file() and mask_path.is_file():
            continue
        rng = np.random.default_rng([settings.seed, place, number])
        picture, mask = draw_picture(rng, settings.size, settings.classes)
        for path, content in ((picture_path, to_jpeg(picture)), (mask_path, to_png(mask, settings.classes))):
            with atomic_write(path) as stream:
                stream.write(content)


def draw_picture(rng: np.random.Generator, size: int, classes: int) -> tuple[Mask, Mask]:
    """Return a picture [row, col, 3] and its mask [row, col] of labels; with one class every shape is 1."""
    background = rng.uniform(60, 195)
    picture = np.full((size, size, 3), background, np.float32) + rng.uniform(-25, 25, 3).astype(np.float32)
    picture += _texture(rng, size, rng.uniform(6, 14))[..., None]
    mask, occupied = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    kinds = KINDS[:classes] if classes > 1 else KINDS
    for _ in range(int(rng.integers(2, 5))):
        kind = int(rng.integers(len(kinds)))
        shape = _place_shape(rng, kinds[kind], occupied)
        if shape is None:
            continue
        inside = shape > 0
        mask[inside] = kind + 1 if classes > 1 else 1
        picture[inside] = _brightness(rng, background) + rng.uniform(-30, 30, 3)
        picture[inside] += _texture(rng, size, rng.uniform(3, 8))[inside][:, None]
        occupied |= cv2.dilate(shape, np.ones((5, 5), np.uint8))
    picture = cv2.GaussianBlur(picture, (0, 0), 0.6) + rng.normal(0, rng.uniform(4, 10), picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), mask


def to_jpeg(picture: Mask) -> bytes:
    """Encode a picture [row, col, 3]."""
    return _encode(Image.fromarray(picture), "JPEG", quality=_QUALITY)


def to_png(mask: Mask, classes: int) -> bytes:
    """Encode a mask: 0 and 255 for one class, or labels with a palette."""
    if classes == 1:
        return _encode(Image.fromarray(mask * np.uint8(255)), "PNG")
    image = Image.fromarray(mask)
    image.putpalette(_PALETTE)
    return _encode(image, "PNG")


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def _place_shape(rng: np.random.Generator, kind: str, occupied: Mask) -> Mask | None:
    """Return a shape of 0 and 1 that touches none of the others; None where there is no room for it."""
    size = len(occupied)
    for _ in range(_TRIES):
        radius = rng.uniform(0.09, 0.2) * size
        centre = rng.uniform(radius + 2, size - radius - 2, 2)
        shape = np.zeros_like(occupied)
        _OUTLINES[kind](shape, rng, centre, radius)
        if not (shape & occupied).any():
            return shape
    return None


def _circle(shape: Mask, _rng: np.random.Generator, centre: Floats, radius: float) -> None:
    cv2.circle(shape, _rounded(centre), round(radius * 0.8), 1, -1)


def _ellipse(shape: Mask, rng: np.random.Generator, centre: Floats, radius: float) -> None:
    axes = (round(radius), round(radius * rng.uniform(0.35, 0.6)))
    cv2.ellipse(shape, _rounded(centre), axes, rng.uniform(0, 180), 0, 360, 1, -1)


def _rectangle(shape: Mask, rng: np.random.Generator, centre: Floats, radius: float) -> None:
    corner = rng.uniform(0.45, 1.1)  # half of the angle between the diagonals
    _fill(
        shape,
        centre,
        radius,
        rng.uniform(0, np.pi) + np.array([-corner, corner, np.pi - corner, np.pi + corner]),
    )


def _polygon(shape: Mask, rng: np.random.Generator, centre: Floats, radius: float) -> None:
    corners = 3 if rng.random() < 0.5 else 5  # four would be a rectangle, and more look like a circle
    steps = np.arange(corners) + rng.uniform(-0.12, 0.12, corners)
    _fill(shape, centre, radius, rng.uniform(0, 2 * np.pi) + steps * 2 * np.pi / corners)


_OUTLINES: Final[Mapping[str, Callable[[Mask, np.random.Generator, Any, float], None]]] = {
    "circle": _circle, "ellipse": _ellipse, "rectangle": _rectangle, "polygon": _polygon,
}  # fmt: skip


def _fill(shape: Mask, centre: Floats, radius: float, angles: NDArray[np.float64]) -> None:
    corners = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(shape, [np.rint(corners).astype(np.int32)], 1)


def _rounded(centre: Floats) -> tuple[int, int]:
    col, row = np.rint(centre).astype(int).tolist()
    return col, row


def _brightness(rng: np.random.Generator, background: float) -> float:
    """Return the mean brightness of a shape, well above or below that of the background."""
    darker, brighter = (max(0.0, room - _MIN_CONTRAST) for room in (background - 15, 240 - background))
    is_darker = rng.uniform(0, darker + brighter) < darker
    contrast = _MIN_CONTRAST + rng.uniform(0, darker if is_darker else brighter)
    return background - contrast if is_darker else background + contrast


def _texture(rng: np.random.Generator, size: int, strength: float) -> Floats:
    """Return smooth noise [row, col] of mean 0 and of this standard deviation."""
    total = np.zeros((size, size), np.float32)
    for cells in (4, 12, 36):
        coarse = rng.normal(size=(cells, cells)).astype(np.float32)
        total += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    total -= total.mean()
    return np.asarray(total * np.float32(strength / total.std()), np.float32)


def _paths(root: Path, subset: str, number: int) -> tuple[Path, Path]:
    stem = f"{subset}_{number + 1:04d}"
    return root / subset / "images" / f"{stem}.jpg", root / subset / "masks" / f"{stem}.png"


def _identity(settings: ShapesSettings) -> dict[str, int]:
    return settings.model_dump(include={*SUBSETS, "size", "classes", "seed"})


def _require_own_folder(root: Path, settings: ShapesSettings) -> None:
    path = root / CLASSES_NAME
    if path.is_file():
        held = read_json(path)
        if not isinstance(held, dict) or held.get("settings") != _identity(settings):
            raise DataError(
                f"{root} holds a generated set of other settings; move it elsewhere, or name another folder "
                "(in a run: another data.sources.SOURCE.name)"
            )
    elif root.is_dir() and any(root.iterdir()):
        raise DataError(f"{root} holds other files; name a new folder for the generated set")
