"""Identical and near-identical pictures, which must not be in two subsets of a split.

Public picture sets repeat themselves and each other, re-encoded, resized, cropped or with a mark drawn in,
and name no patients. Pixel-identical copies are left out. Near-identical pictures share a group; in practice
these are re-encodings and neighbouring slices of one patient.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem, Severity
from slicewise.imaging.foreground import foreground
from slicewise.imaging.io.image2d import read_picture

HASH_SIDE: Final = 16
RADIUS: Final = 52
"""Largest Hamming distance, of 256 bits, of both hashes.

Of the 534 distinct pictures in samples of two public sets, 52 joins 51 families of at most 3, all visibly the
same image or neighbouring slices. The heads of the nearest unrelated pictures are 57 apart.
"""
_BLOCK: Final = 512
_REPEATED: Final[tuple[str, Severity]] = (
    "pixel for pixel the same as another picture, which is kept",
    "note",
)
_CONTRADICTED: Final[tuple[str, Severity]] = ("labelled both tumour and no tumour", "error")


Hashes = tuple[bytes, bytes]
"""DCT and gradient hash (Zauner 2010)."""


@dataclass(frozen=True)
class PictureHash:
    """The digest of a picture's grey pixels, and its perceptual hashes."""

    digest: str
    hashes: tuple[Hashes, ...]
    """Of the whole picture, and of its crop to the head, which does not depend on the margin."""
    notes: tuple[str, ...] = ()
    """Warnings about the file."""


def hash_picture(path: Path) -> PictureHash:
    """Return the hashes of a picture.

    Raises:
        PictureError: it cannot be read.
    """
    picture = read_picture(path)
    pixels = picture.pixels
    exact = hashlib.sha256(f"{pixels.dtype}{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
    eight_bit = _to_eight_bits(pixels)
    return PictureHash(exact, (_hashes(eight_bit), _hashes(_crop_to_head(eight_bit))), picture.notes)


def _to_eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the pixels scaled to 0..255 by their range; outliers are clipped."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = (
        (0.0, float(pixels.max())) if pixels.dtype == np.uint16 else np.percentile(pixels, (0.1, 99.9))
    )
    scale = 255 / (high - low) if high > low else 0.0
    return np.asarray(((pixels.astype(np.float64) - low) * scale).clip(0, 255), np.uint8)


def _hashes(pixels: NDArray[np.uint8]) -> Hashes:
    image = Image.fromarray(pixels)
    first, second = (
        np.packbits(hash_function(image, HASH_SIDE).hash).tobytes()
        for hash_function in (imagehash.phash, imagehash.dhash)
    )
    return first, second


def _crop_to_head(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the picture cut to the box around its head; a black one unchanged."""
    inside = foreground(pixels[None, None], (True,))[0]
    if not inside.any():
        return pixels
    rows, cols = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1])


def group_pictures(
    cases: Sequence[CaseFiles], hashes: Sequence[PictureHash]
) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the distinct pictures, near-identical ones with a common `group`.

    Of identical pictures the first is kept, or none where their labels contradict each other. A group is
    named by its smallest digest, so that it does not depend on file names or order.
    """
    unique, problems = _drop_repeats(list(zip(cases, hashes, strict=True)))
    grouped = [case for case, _ in unique]
    for family in group_near_duplicates([picture for _, picture in unique]):
        name = min(unique[index][1].digest for index in family)[:16]
        members = [unique[index][0] for index in family]
        if len({case.label for case in members}) > 1:
            what = "almost the same as a picture with the other label"
            problems += [Problem(case.images[0], what, "warning") for case in members]
        for index in family:
            grouped[index] = replace(grouped[index], group=name)
    return grouped, problems


def group_near_duplicates(pictures: Sequence[PictureHash]) -> list[list[int]]:
    """Return the indices of the pictures in families: a chain of pairs within RADIUS is one family.

    Both hashes of a pair are near, of the whole pictures or of the heads.
    """
    if not pictures:
        return []
    pairs = [
        _find_near_pairs([b"".join(picture.hashes[crop][kind] for picture in pictures) for kind in (0, 1)])
        for crop in range(len(pictures[0].hashes))
    ]
    rows, cols = (np.concatenate(indices) for indices in zip(*pairs, strict=True))
    shape = (len(pictures), len(pictures))
    _, labels = connected_components(
        coo_array((np.ones(len(rows), np.bool_), (rows, cols)), shape), directed=False
    )
    families: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels.tolist()):
        families[label].append(index)
    return list(families.values())


def _find_near_pairs(joined: Sequence[bytes]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs whose hashes all differ by at most RADIUS bits; a block of rows at a time."""
    words = [np.frombuffer(hashes, np.uint64).reshape(-1, HASH_SIDE**2 // 64) for hashes in joined]
    rows, cols = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for start in range(0, len(words[0]), _BLOCK):
        near = np.logical_and.reduce(
            [_distances(hashes[start : start + _BLOCK], hashes) <= RADIUS for hashes in words]
        )
        row, col = np.nonzero(near)
        rows.append(row + start)
        cols.append(col)
    return np.concatenate(rows), np.concatenate(cols)


def _distances(some: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return the Hamming distances [len(some), len(others)]."""
    distances = np.zeros((len(some), len(others)), np.uint16)
    for word in range(some.shape[1]):
        distances += np.bitwise_count(some[:, word, None] ^ others[None, :, word])
    return distances


_Hashed = tuple[CaseFiles, PictureHash]


def _drop_repeats(pictures: list[_Hashed]) -> tuple[list[_Hashed], list[Problem]]:
    same: dict[str, list[_Hashed]] = defaultdict(list)
    for case, picture in pictures:
        same[picture.digest].append((case, picture))
    unique: list[_Hashed] = []
    problems: list[Problem] = []
    for copies in same.values():
        agree = len({case.label for case, _ in copies}) == 1
        if agree:
            first, picture = copies[0]
            unique.append((replace(first, copies=tuple(case.images[0] for case, _ in copies[1:])), picture))
        left_out = copies[1:] if agree else copies
        what, severity = _REPEATED if agree else _CONTRADICTED
        problems += [Problem(case.images[0], what, severity) for case, _ in left_out]
    return unique, problems
