"""Yes/no pictures like those on Kaggle: slices with the skull, in various sizes and formats.

They show other subjects than the volumes do: their random stream is another one.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from slicewise.core.console import progress
from slicewise.core.errors import DataError
from slicewise.core.files import atomic_write, sweep
from slicewise.core.parallel import map_cases
from slicewise.data.phantom.contrast import Head
from slicewise.data.phantom.fields import MARGIN, SHAPE, Bytes, Floats, Points
from slicewise.data.phantom.patients import WORKER_MIB, Subject
from slicewise.domain.labels import Modality

_STREAM = 1
_CYCLE = 5
_YES_IN_CYCLE = (0, 2, 4)
_DUPLICATES = 0.06
_CONTRASTS: tuple[Modality, ...] = ("flair", "t1ce", "t2", "t1")
_CONTRAST_SHARES = (0.56, 0.22, 0.18, 0.04)
_ENDINGS = ("jpg", "JPG", "jpeg", "png")
_ENDING_SHARES = (0.68, 0.12, 0.10, 0.10)
_HEIGHTS = (62.0, 118.0)
"""Atlas slices above the orbits: lower ones would need a face."""
_PICTURES_PER_WORKER = 20
"""Starting a worker takes about as long as drawing these."""


@dataclass(frozen=True)
class PictureName:
    """Picture `index` of the set and its file."""

    index: int
    tumour: bool
    file: str


def picture_names(count: int, seed: int) -> Iterator[PictureName]:
    """Yield the `count` pictures of a set: three in five show a tumour."""
    numbers = {True: 0, False: 0}
    for index in range(count):
        tumour = index % _CYCLE in _YES_IN_CYCLE
        numbers[tumour] += 1
        rng = np.random.default_rng([seed, _STREAM, index, 20])
        ending = _ENDINGS[int(rng.choice(len(_ENDINGS), p=_ENDING_SHARES))]
        stem = f"Y{numbers[True]}" if tumour else rng.choice(["N{}", "no {}"]).format(numbers[False])
        yield PictureName(index, tumour, f"{'yes' if tumour else 'no'}/{stem}.{ending}")


def missing_pictures(folder: Path, count: int, seed: int) -> list[PictureName]:
    """Return the pictures of a set that are not in `folder` yet; the remains of a killed process are removed.

    Raises:
        DataError: the folder holds other files, for instance of a larger set.
    """
    sweep(folder, deep=True)
    names = list(picture_names(count, seed))
    present = {path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.name[0] != "."}
    if others := sorted(present - {name.file for name in names}):
        raise DataError(
            f"{folder} holds {len(others)} files that are not of this set of {len(names)} generated "
            f"pictures, such as {others[0]}; move the folder elsewhere and run again"
        )
    return [name for name in names if name.file not in present]


def materialise_pictures(folder: Path, count: int, seed: int, num_workers: int) -> Path:
    """Write the missing ones of a set of `count` yes/no pictures to `folder`, and return it.

    Few of them are drawn in this process.

    Raises:
        DataError: the folder holds other pictures, or the system killed a worker.
    """
    missing = missing_pictures(folder, count, seed)
    done = map_cases(
        partial(write_picture, folder, seed),
        missing,
        name=lambda picture: picture.file,
        num_workers=num_workers,
        memory_mib=WORKER_MIB,
        jobs_per_worker=_PICTURES_PER_WORKER,
    )
    for _ in progress(done, total=len(missing), desc="Drawing pictures", unit="picture"):
        pass
    return folder


def write_picture(folder: Path, seed: int, name: PictureName) -> None:
    """Write one picture, complete or not at all."""
    with atomic_write(folder / name.file) as stream:
        stream.write(render_picture(name, seed))


def render_picture(name: PictureName, seed: int) -> bytes:
    """Return the picture as an encoded file. About one in twenty is an earlier one, encoded again."""
    source = _original(name.index, seed)
    subject = Subject((seed, _STREAM, source), with_tumour=name.tumour, millilitres=(8.0, 130.0))
    rng = np.random.default_rng([seed, _STREAM, source, 23])
    modality = _CONTRASTS[int(rng.choice(len(_CONTRASTS), p=_CONTRAST_SHARES))]
    level = _choose_slice(subject, rng)
    grey = _window(_render_slice(subject, modality, level, rng), rng)
    rng = np.random.default_rng([seed, _STREAM, name.index, 21])
    if source != name.index and rng.random() < 0.5:
        scale = float(rng.uniform(0.7, 1.3))
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return _encode(grey, name.file.rsplit(".", 1)[1].lower(), rng)


def _original(index: int, seed: int) -> int:
    """Return the picture of which `index` is a duplicate, or itself; never one of the other label."""
    while index >= _CYCLE:
        rng = np.random.default_rng([seed, _STREAM, index, 22])
        if rng.random() >= _DUPLICATES:
            break
        index -= _CYCLE
    return index


def _choose_slice(subject: Subject, rng: np.random.Generator) -> float:
    """Return the level of a slice above the orbits that shows the tumour well, if there is one."""
    points, tissue = subject.survey, subject.tissue
    levels = points.coordinates()[0]
    allowed = (tissue.height > _HEIGHTS[0]) & (tissue.height < _HEIGHTS[1])
    if subject.tumour is None:
        return float(rng.choice(np.unique(levels[allowed & (tissue.depth > 35)])))
    whole = subject.compartments(points, tissue).whole
    candidates = np.unique(levels)
    area = np.array([whole[(levels == level) & allowed].sum() for level in candidates])
    if area.max() < 4:
        area = np.array([whole[levels == level].sum() for level in candidates])
    return float(rng.choice(candidates[area >= 0.6 * area.max()]))


def _render_slice(subject: Subject, modality: Modality, level: float, rng: np.random.Generator) -> Floats:
    """Return the magnitude image float32 [row, col] of one slice with skull and scalp."""
    rows, cols = (np.arange(-MARGIN, size + MARGIN, dtype=np.float32) for size in SHAPE[1:])
    plane = Points.box(np.array([level], dtype=np.float32), rows, cols)
    points, tissue = subject.brain.at(plane, subject.pushes, floor=-30)
    tumour, extras = subject.compartments(points, tissue), subject.mimics.at(points, tissue)
    signal = subject.scanner.signal(modality, tissue, extras, tumour, subject.scanner.textures(points))
    signal = Head(rng).cover(signal, modality, points, tissue)
    return np.asarray(subject.scanner.acquire(modality, points, signal, rng)[0])


def _window(image: Floats, rng: np.random.Generator) -> Bytes:
    """Return the head with an uneven black margin, a random window and gamma, 180 to 600 pixels wide."""
    brain = float(np.median(image[image > 0.3 * image.mean()]))
    high = max(float(np.percentile(image, rng.uniform(98.6, 99.8))), 1.5 * brain)
    head = cv2.morphologyEx((image > 0.22 * high).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    rows, cols = np.flatnonzero(head.any(axis=1)), np.flatnonzero(head.any(axis=0))
    pads = rng.integers(1, 26, 4) if rng.random() < 0.7 else rng.integers(15, 70, 4)
    top, bottom = int(rows[0]) + 70 - pads[0], int(rows[-1]) + 71 + pads[1]
    left, right = int(cols[0]) + 70 - pads[2], int(cols[-1]) + 71 + pads[3]
    image = np.pad(image, 70)[top:bottom, left:right]
    scaled = np.clip((image / high - rng.uniform(0, 0.06)) / rng.uniform(0.8, 1.05), 0, 1)
    scaled = scaled ** rng.uniform(0.85, 1.35)
    width = int(np.clip(rng.lognormal(5.55, 0.32), 180, 600))
    height = int(np.clip(width * image.shape[0] / image.shape[1], 180, 600))
    resized = cv2.resize(scaled.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    grey: Bytes = np.clip(np.rint(resized * 255), 0, 255).astype(np.uint8)
    if rng.random() < 0.12:  # the letter of a journal figure, or a side marker, in a corner
        text = str(rng.choice(["A", "B", "a", "b", "R", "L"]))
        place = (4, grey.shape[0] - 8) if rng.random() < 0.6 else (grey.shape[1] - 22, 24)
        cv2.putText(grey, text, place, cv2.FONT_HERSHEY_SIMPLEX, grey.shape[1] / 420, 235, 1, cv2.LINE_AA)
    return grey


def _encode(grey: Bytes, ending: str, rng: np.random.Generator) -> bytes:
    """Encode as the format allows: L or RGB in JPEG, also RGBA and P in PNG."""
    modes = ("L", "RGB", "RGBA", "P") if ending == "png" else ("L", "RGB")
    shares = (0.2, 0.3, 0.3, 0.2) if ending == "png" else (0.25, 0.75)
    picture = Image.fromarray(grey).convert(modes[int(rng.choice(len(modes), p=shares))])
    options: dict[str, Any] = {"quality": int(rng.integers(70, 96))} if ending != "png" else {}
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG" if ending == "png" else "JPEG", **options)
    return buffer.getvalue()
