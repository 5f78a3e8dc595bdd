"""Made-up slices of brains, and pictures that are none: pages, noise, photographs, X-rays."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import sklearn
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
_SIDE = 256


def brain(side: int = 160, *, skull: bool = False) -> NDArray[np.float32]:
    """A slice with grey and white matter, ventricles and noise; with a skull also bone and scalp."""
    y, x = np.indices((side, side)) / side - 0.5
    radius = np.hypot(x / 0.36, y / 0.44)
    folds = np.sin(14 * np.arctan2(y, x) + 6 * np.sin(9 * radius))
    image = np.where(radius < 0.8 + 0.06 * folds, 0.75, 0.5)
    image[np.hypot((abs(x) - 0.06) / 0.04, y / 0.14) < 1] = 0.15
    image += np.random.default_rng(0).normal(0, 0.05, x.shape) + 0.1 * x * y
    edge = 0.86 if skull else 1.0
    image = np.where(radius < edge, image, 0.0)
    if skull:
        image = np.where((radius > 0.86) & (radius < 0.93), 0.05, image)
        image = np.where((radius >= 0.93) & (radius < 1.0), 0.9, image)
    return np.asarray(image.clip(0) * 400, np.float32)


def pictures(seed: int = 0) -> Iterator[tuple[str, Picture]]:
    """Yield 90 names and pictures, grey [row, col] or in colour [row, col, 3]."""
    rng = np.random.default_rng(seed)
    yield from _patterns(rng)
    for number in range(15):
        yield f"chest {number}", _chest(rng, framed=number % 3 == 0)
        yield f"body {number}", _body(rng)
        yield f"page {number}", _page(rng, inverted=number % 2 == 0)
    yield from _photographs(rng)


def _patterns(rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    rows, cols = np.indices((_SIDE, _SIDE))
    y, x = rows / _SIDE - 0.5, cols / _SIDE - 0.5
    disc, angle = x**2 + y**2 < 0.16, np.arctan2(y, x)
    coarse = cv2.resize(rng.uniform(0, 255, (12, 12)), (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    patterns = {
        "uniform noise": rng.uniform(0, 255, x.shape),
        "normal noise": rng.normal(128, 40, x.shape),
        "salt": 255.0 * (rng.random(x.shape) < 0.02),
        "gradient": 255 * (x + 0.5),
        "chessboard": 255.0 * ((rows // 32 + cols // 32) % 2),
        "rays": 255.0 * (np.sin(20 * angle) > 0),
        "blotches": coarse,
        "white with a mark": 255 - 200.0 * ((abs(x) < 0.02) & (abs(y) < 0.02)),
        "disc": 200.0 * disc,
        "disc of noise": disc * rng.uniform(60, 255, x.shape),
        "sphere": 255 * np.sqrt(np.clip(0.16 - x**2 - y**2, 0, 1)) / 0.4,
        "black with a bar": 255.0 * (abs(y) < 0.1),
        "stripes": 127 + 127 * np.sin(80 * x),
    }
    for name, values in patterns.items():
        yield name, values.clip(0, 255).astype(np.uint8)


def _chest(rng: np.random.Generator, *, framed: bool) -> Picture:
    """Return an X-ray of a chest: bright body and spine, two dark lungs, ribs."""
    y, x = np.indices((_SIDE, _SIDE)) / _SIDE - 0.5
    image = np.clip(1 - (abs(x) / rng.uniform(0.47, 0.52)) ** 6, 0, 1) * (0.55 + 0.25 * (y + 0.5))
    for side in (-1, 1):
        across, down = (x - side * rng.uniform(0.19, 0.22)) / rng.uniform(0.13, 0.15), (y - 0.03) / 0.32
        image -= 0.45 * np.sqrt(np.clip(1.3 - across**2 - down**2, 0, 1))
    image += 0.3 * np.exp(-((x / 0.05) ** 2))
    for rib in range(9):
        image += 0.06 * np.exp(-(((y + 0.4 - rib * 0.085 - 0.6 * x**2) / 0.012) ** 2)) * (abs(x) < 0.4)
    image = cv2.GaussianBlur(image + rng.normal(0, 0.02, x.shape), (0, 0), 1.5)
    picture = (255 * image.clip(0, 1)).astype(np.uint8)
    return np.pad(picture, 20) if framed else picture


def _body(rng: np.random.Generator) -> Picture:
    """Return an axial slice of a trunk: wide, with a layer of fat, organs and a vertebra."""
    y, x = np.indices((_SIDE, _SIDE)) / _SIDE - 0.5
    inside = (x / 0.45) ** 2 + (y / rng.uniform(0.28, 0.33)) ** 2
    image = np.where(inside < 0.85, 0.5, 0.25 * (inside < 1))
    for _ in range(12):
        column, row, size = rng.uniform(-0.3, 0.3), rng.uniform(-0.18, 0.12), rng.uniform(0.03, 0.1)
        organ = ((x - column) ** 2 + (y - row) ** 2 < size**2) & (inside < 0.8)
        image[organ] = rng.uniform(0.1, 0.75)
    image[(x / 0.05) ** 2 + ((y - 0.17) / 0.06) ** 2 < 1] = 1
    blurred = cv2.GaussianBlur(image + rng.normal(0, 0.02, x.shape) * (inside < 1), (0, 0), 1.0)
    return np.asarray((255 * blurred.clip(0, 1)).astype(np.uint8))


def _page(rng: np.random.Generator, *, inverted: bool) -> Picture:
    """Return a page of text: rows of dark bars on white."""
    page = np.full((320, 240), 255, np.uint8)
    for top in range(24, 296, 12):
        left = 24
        while left < 200:
            right = left + int(rng.integers(6, 26))
            page[top : top + 5, left : min(right, 216)] = rng.integers(0, 60)
            left = right + 4
    return 255 - page if inverted else page


def _photographs(rng: np.random.Generator) -> Iterator[tuple[str, Picture]]:
    """Yield photographs of installed packages, whole, in grey, and pieces of them."""
    folders = (
        Path(sklearn.__file__).parent / "datasets" / "images",
        Path(mpl.get_data_path()) / "sample_data",
    )
    for path in sorted(each for folder in folders for each in folder.glob("*.jpg")):
        colours = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        grey = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
        yield path.stem, np.asarray(colours, np.uint8)
        yield f"{path.stem}, grey", np.asarray(grey, np.uint8)
        for number in range(9):
            side = int(min(grey.shape) * rng.uniform(0.4, 0.9))
            top, left = (int(rng.integers(0, size - side + 1)) for size in grey.shape)
            piece = grey[top : top + side, left : left + side]
            yield f"{path.stem}, piece {number}", np.asarray(piece, np.uint8)
