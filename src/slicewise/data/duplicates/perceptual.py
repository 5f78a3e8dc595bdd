"""Pictures that are the same, or almost: they must not stand on two sides of a split.

Public picture sets repeat themselves and each other, re-encoded, resized, cropped or with a mark drawn in,
and carry no patient names. Pixel-identical copies are left out. Near-identical pictures are kept and share a
group; in practice these are re-encodings and neighbouring slices of one patient.
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
from slicewise.domain.labels import NUM_MODALITIES
from slicewise.imaging.foreground import foreground
from slicewise.imaging.io.image2d import read_picture

HASH_SIDE: Final = 16
RADIUS: Final = 52
"""Bits of 256 by which both hashes of one view may differ.

Of the 534 distinct pictures in samples of two public sets, 52 joins 51 families of at most 3, all of them the
same image or neighbouring slices to the eye. The heads of the nearest strangers are 57 apart.
"""
_BLOCK: Final = 512
_REPEATED: Final[tuple[str, Severity]] = (
    "pixel for pixel the same as another picture, which is kept",
    "note",
)
_CONTRADICTED: Final[tuple[str, Severity]] = ("found both under tumour and under no tumour", "error")


Hashes = tuple[bytes, bytes]
"""DCT and gradient hash (Zauner 2010)."""


@dataclass(frozen=True)
class PictureHash:
    """What a picture looks like: the digest of its grey pixels, and how each of its views looks."""

    digest: str
    views: tuple[Hashes, ...]
    """Of the whole picture, and of the head alone: another margin changes the first, not the second."""
    notes: tuple[str, ...] = ()
    """What is odd about the file."""


def hash_picture(path: Path) -> PictureHash:
    """Read a picture and return its print.

    Raises:
        PictureError: it cannot be read.
    """
    picture = read_picture(path)
    pixels = picture.pixels
    exact = hashlib.sha256(f"{pixels.dtype}{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
    eight_bit = _to_eight_bits(pixels)
    return PictureHash(exact, (_hashes(eight_bit), _hashes(_head(eight_bit))), picture.notes)


def _to_eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale by content. Single pixels out of range are clipped."""
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


def _head(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut the picture to the box around its head; a black one stays."""
    presence = (True, False, False, False)
    inside = foreground(np.broadcast_to(pixels, (NUM_MODALITIES, 1, *pixels.shape)), presence)[0]
    if not inside.any():
        return pixels
    rows, cols = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1])


def group_pictures(
    cases: Sequence[CaseFiles], prints: Sequence[PictureHash]
) -> tuple[list[CaseFiles], list[Problem]]:
    """Leave out repeated pictures and give near-identical ones a common `group`.

    Of identical pictures the first is kept, or none where their labels contradict each other. A group is
    named by the smallest digest in it, so that it does not depend on file names or order.
    """
    unique, problems = _drop_repeats(list(zip(cases, prints, strict=True)))
    families = group_near_duplicates([picture for _, picture in unique])
    grouped: list[CaseFiles | None] = [None] * len(unique)
    for family in families:
        name = min(unique[index][1].digest for index in family)[:16]
        members = [unique[index][0] for index in family]
        if len({case.label for case in members}) > 1:
            what = "almost the same as a picture with the other label"
            problems += [Problem(case.images[0], what, "warning") for case in members]
        for index in family:
            grouped[index] = replace(unique[index][0], group=name)
    return [case for case in grouped if case is not None], problems


def group_near_duplicates(prints: Sequence[PictureHash]) -> list[list[int]]:
    """Return the indices of the prints in families: a chain of pairs within RADIUS is one family.

    A pair is near in one of its views, and there by both hashes.
    """
    if not prints:
        return []
    pairs = [
        _find_near_pairs([_words(prints, view, kind) for kind in (0, 1)])
        for view in range(len(prints[0].views))
    ]
    rows, cols = (np.concatenate(indices) for indices in zip(*pairs, strict=True))
    shape = (len(prints), len(prints))
    _, labels = connected_components(
        coo_array((np.ones(len(rows), np.bool_), (rows, cols)), shape), directed=False
    )
    families: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels.tolist()):
        families[label].append(index)
    return list(families.values())


def _words(prints: Sequence[PictureHash], view: int, kind: int) -> NDArray[np.uint64]:
    joined = b"".join(picture.views[view][kind] for picture in prints)
    return np.frombuffer(joined, np.uint64).reshape(len(prints), -1)


def _find_near_pairs(words: Sequence[NDArray[np.uint64]]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs whose hashes all differ by at most RADIUS bits; a block of rows at a time."""
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


_Printed = tuple[CaseFiles, PictureHash]


def _with_copies(copies: Sequence[_Printed]) -> _Printed:
    """Return the first of identical pictures, which remembers where the others lie."""
    case, picture = copies[0]
    return replace(case, copies=tuple(other.images[0] for other, _ in copies[1:])), picture


def _drop_repeats(printed: list[_Printed]) -> tuple[list[_Printed], list[Problem]]:
    same: dict[str, list[_Printed]] = defaultdict(list)
    for case, picture in printed:
        same[picture.digest].append((case, picture))
    unique: list[_Printed] = []
    problems: list[Problem] = []
    for copies in same.values():
        agree = len({case.label for case, _ in copies}) == 1
        unique += [_with_copies(copies)] if agree else []
        left_out = copies[1:] if agree else copies
        what, severity = _REPEATED if agree else _CONTRADICTED
        problems += [Problem(case.images[0], what, severity) for case, _ in left_out]
    return unique, problems
