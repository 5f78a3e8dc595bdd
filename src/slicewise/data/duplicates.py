"""Duplicates, which must not be in two subsets of a split: within a source, and across sources.

Volumes are compared byte for byte: releases of BraTS rename their patients. Public picture sets repeat
themselves and each other, re-encoded, resized, cropped or with a mark drawn in, and name no patients.
Pixel-identical copies are left out. Near-identical pictures share a group; in practice these are re-encodings
and neighbouring slices of one patient.
"""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slicewise.config.schema import SourceSettings
from slicewise.core.console import progress
from slicewise.core.hashing import hash_file
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.domain.keys import CaseKey
from slicewise.imaging.foreground import foreground
from slicewise.imaging.io.image2d import read_picture

HASH_SIDE: Final = 16
RADIUS: Final = 52
"""Largest Hamming distance, of 256 bits, of both hashes.

Of the 534 distinct pictures in samples of two public sets, 52 joins 51 families of at most 3, all visibly the
same image or neighbouring slices. The heads of the nearest unrelated pictures are 57 apart.
"""
_ROWS: Final = 512
"""Pictures that are compared with all others at a time."""
_BLOCK_BYTES: Final = 1 << 16
Hashes = tuple[bytes, bytes]
"""DCT and gradient hash (Zauner 2010)."""


def drop_copies(cases: Sequence[CaseFiles]) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the cases whose images are not byte for byte those of an earlier one, of the same modalities.

    Most volumes of a release have one size, so cases are compared by size, then by a small block, and whole
    files are read only where both are equal. An image that is empty or cannot be read counts as unique:
    reading it later reports the fault.
    """
    groups = [list(cases)]
    for signature in (_sizes, _hash_block, lambda case: tuple(map(hash_file, case.images))):
        alike: dict[tuple[int, Hashable], list[CaseFiles]] = defaultdict(list)
        for number, group in enumerate(groups):
            for case in group:
                with suppress(OSError):
                    alike[number, signature(case)].append(case)
        groups = [group for group in alike.values() if len(group) > 1]
    first_of = {case.key: group[0].key for group in groups for case in group[1:]}
    problems: list[Problem] = []
    copies: dict[CaseKey, tuple[Path, ...]] = {case.key: case.copies for case in cases}
    for case in cases:
        if first := first_of.get(case.key):
            what = f"{case.key.case}: the same images, byte for byte, as {first.case}, which is kept"
            problems.append(Problem(case.folder, what, "note"))
            copies[first] += (case.images[0], *case.copies)
    return [replace(case, copies=copies[case.key]) for case in cases if case.key not in first_of], problems


def _sizes(case: CaseFiles) -> Hashable:
    sizes = tuple(path.stat().st_size for path in case.images)
    return (case.kind, case.modalities, sizes) if all(sizes) else case.key


def _hash_block(case: CaseFiles) -> Hashable:
    """Hash the middle of the middle image: the first block is often black in all patients."""
    path = case.images[len(case.images) // 2]
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _BLOCK_BYTES, 0) // 2)
        return hashlib.sha256(file.read(_BLOCK_BYTES)).digest()


def drop_repeats(
    cases: Sequence[CaseFiles], sources: Sequence[SourceSettings]
) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the cases without those that an earlier source has, and a note for each that is left out.

    An image of a patient must not train a model that is tested on another. Sources with the role train_only
    come last. Within a source, its kind has decided already. Pictures are compared by their pixels and
    perceptual hashes: a family of near-identical ones keeps the members of one source.
    """
    order = {s.name: (s.role == "train_only", place) for place, s in enumerate(sources)}
    first_to_last = sorted(cases, key=lambda case: order[case.key.source])
    compared = {s.name for s in sources if getattr(s, "duplicates", "group") == "group"}
    volumes = [case for case in first_to_last if case.unit != "picture"]
    pictures = [case for case in first_to_last if case.unit == "picture" and case.key.source in compared]
    several = len({case.key.source for case in volumes}) > 1
    kept = {case.key for case in (drop_copies(volumes)[0] if several else volumes)}
    what = "the same images, byte for byte, as a case of another source, which is kept"
    problems = [Problem(case.images[0], what, "note") for case in volumes if case.key not in kept]
    if len({case.key.source for case in pictures}) > 1:
        problems += _drop_pictures(pictures)
    left_out = {problem.path for problem in problems}
    return [case for case in cases if case.images[0] not in left_out], problems


def _drop_pictures(cases: Sequence[CaseFiles]) -> list[Problem]:
    with ThreadPoolExecutor() as pool:
        hashed = pool.map(hash_picture, [case.images[0] for case in cases])
        hashes = list(progress(hashed, desc="Comparing sources", total=len(cases), unit="picture"))
    problems = []
    for family in group_near_duplicates(hashes):
        first = cases[min(family)].key.source
        what = f"almost the same as a picture of {first}, which is kept"
        others = [cases[index] for index in family if cases[index].key.source != first]
        problems += [Problem(case.images[0], what, "note") for case in others]
    return problems


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


def _crop_to_head(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the picture cut to the box around its head; a black one unchanged."""
    inside = foreground(pixels[None, None], (True,))[0]
    if not inside.any():
        return pixels
    rows, cols = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1])


def _hashes(pixels: NDArray[np.uint8]) -> Hashes:
    image = Image.fromarray(pixels)
    dct, gradient = (kind(image, HASH_SIDE).hash for kind in (imagehash.phash, imagehash.dhash))
    return np.packbits(dct).tobytes(), np.packbits(gradient).tobytes()


def group_pictures(
    cases: Sequence[CaseFiles], hashes: Sequence[PictureHash]
) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the distinct pictures, near-identical ones with a common `group`.

    Of identical pictures the first is kept, or none where their labels contradict each other. A group is
    named by its smallest digest, so that it does not depend on file names or order.
    """
    identical: dict[str, list[CaseFiles]] = defaultdict(list)
    for case, picture in zip(cases, hashes, strict=True):
        identical[picture.digest].append(case)
    kept: dict[str, CaseFiles] = {}
    problems: list[Problem] = []
    for digest, (first, *others) in identical.items():
        paths = tuple(case.images[0] for case in others)
        if all(case.label == first.label for case in others):
            kept[digest] = replace(first, copies=paths)
            what = "pixel for pixel the same as another picture, which is kept"
            problems += [Problem(path, what, "note") for path in paths]
        else:
            what = "in folders of different classes"
            problems += [Problem(path, what) for path in (first.images[0], *paths)]
    # By digest, the hash of the first picture that has it.
    distinct = {picture.digest: picture for picture in reversed(hashes) if picture.digest in kept}
    digests = [*kept]
    for family in group_near_duplicates([distinct[digest] for digest in digests]):
        members = [digests[index] for index in family]
        if len({kept[digest].label for digest in members}) > 1:
            what = "almost the same as a picture of another class"
            problems += [Problem(kept[digest].images[0], what, "warning") for digest in members]
        kept |= {digest: replace(kept[digest], group=min(members)[:16]) for digest in members}
    return [*kept.values()], problems


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
    for start in range(0, len(words[0]), _ROWS):
        near = np.logical_and.reduce(
            [_distances(hashes[start : start + _ROWS], hashes) <= RADIUS for hashes in words]
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
