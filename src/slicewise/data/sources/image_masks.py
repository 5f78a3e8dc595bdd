"""Pictures of any kind with masks, as people lay them out; and generated shapes, laid out likewise.

    images/x.jpg               masks/x.png                 also image, imgs, ...; mask, labels, gt, ...
    train/images/x.jpg         train/masks/x_mask.png      also images/train/x.jpg, masks/train/x.png
    train/x.jpg                train_masks/x_mask.gif
    x.jpg                      x_mask.png                  beside each other

A mask belongs to the picture of the same name in the same place, leaving out words for pictures and masks.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from slicewise.config.schema import Runtime
from slicewise.config.schema.sources import ImageMasksSettings, ShapesSettings, SourceSettings
from slicewise.core.console import progress
from slicewise.core.errors import DataError, PictureError
from slicewise.data.cases import CaseFiles
from slicewise.data.duplicates import PictureHash, group_pictures, hash_picture
from slicewise.data.problems import Problem, summarise_problems
from slicewise.data.shapes import CLASSES_NAME, write_shapes
from slicewise.data.sources.base import Discovered, Source
from slicewise.data.sources.class_folders import number_repeated
from slicewise.domain.keys import CaseKey, safe_name
from slicewise.domain.labels import COLOURS, LabelMap
from slicewise.imaging.io.file_format import looks_like_picture
from slicewise.imaging.io.image2d import open_picture, read_picture
from slicewise.imaging.io.mask2d import choose_labels, decode_mask, read_mask
from slicewise.imaging.volume import Volume, picture_volume

_EXPECTED: Final = "images/x.jpg and masks/x.png, in one folder each or below train, val and test"
_NO_MASK: Final = "a picture without a mask, left out"
_NO_PICTURE: Final = "a mask without a picture, left out"
_SEVERAL: Final = "a picture with several masks, left out; join them into one file"
_TWICE: Final = "the name of a picture that is there already, with another ending; left out"
_WORD: Final = re.compile(r"[A-Za-z]+|[0-9]+|[^A-Za-z0-9]+")
_SEPARATORS: Final = " -_."
_OF_IMAGES: Final = {
    "image",
    "images",
    "img",
    "imgs",
    "picture",
    "pictures",
    "photo",
    "photos",
    "input",
    "inputs",
}
_OF_MASKS: Final = {
    "mask", "masks", "label", "labels", "seg", "segm", "segs", "segmentation", "segmentations", "annotation",
    "annotations", "annot", "gt", "gts", "groundtruth", "target", "targets",
}  # fmt: skip
_SPELLINGS: Final = {"jpegimages": "images", "segmentationclass": "masks", "ground_truth": "groundtruth"}
_EXIF_ORIENTATION, _SIDEWAYS = 274, (5, 6, 7, 8)

Place = tuple[tuple[str, ...], str]
"""The folders and the stem of a picture, in lower case and without words for pictures and masks."""


class ImageMasks(Source[ImageMasksSettings]):
    """Pictures, each with a mask of the same name; every picture is a patient."""

    Settings: ClassVar[type[SourceSettings]] = ImageMasksSettings

    @classmethod
    def reads(cls, path: Path) -> bool:
        return looks_like_picture(path)

    def discover(self, root: Path) -> Discovered:
        """Return the pictures with a mask below `root`, in natural order, and the problems.

        Identical pictures are used once, and near-identical ones stay in one group.

        Raises:
            DataError: there is no folder, or no picture with a mask in it; or masks hold values without a
                class.
        """
        folders = [name and name.lower() for name in (self.settings.images, self.settings.masks)]
        files = self.read_files(root)
        pairs, problems = pair_masks(root, files, *folders)
        problems += [note for note in self.skipped_files(root) if note.path.name != CLASSES_NAME]
        if not pairs:
            reasons = summarise_problems(problems)
            raise DataError(
                f"{root} holds no picture with a mask; expected {_EXPECTED}; `images` and `masks` of the "
                f"source name other folders{reasons}"
            )
        values = _read_values([mask for _, mask, _ in pairs], problems)
        readable = [pair for pair in pairs if pair[1] in values]
        if not readable:
            raise DataError(f"{root} holds no readable mask{summarise_problems(problems)}")
        first = {value: path for path in reversed([*values]) for value in values[path]}
        labels = choose_labels(first, self.settings.values, f"data.sources.{self.settings.name}.values")
        return self._group(self._cases(readable, labels), problems)

    def _cases(self, pairs: "Sequence[Pair]", labels: LabelMap) -> list[CaseFiles]:
        names = number_repeated(safe_name("-".join((*folders, stem))) for _, _, (folders, stem) in pairs)
        return [
            CaseFiles(
                key=CaseKey(self.settings.name, name, name),
                kind="image_masks",
                modalities=COLOURS,
                images=(picture,),
                masks=(mask,),
                label=None,
                group=name,
                labels=labels,
            )
            for name, (picture, mask, _) in zip(names, pairs, strict=True)
        ]

    def _group(self, cases: list[CaseFiles], problems: list[Problem]) -> Discovered:
        if self.settings.duplicates == "ignore":
            return cases, problems
        readable, hashes = [], []
        with ThreadPoolExecutor() as pool:
            results = pool.map(_try_hash, [case.images[0] for case in cases])
            bar = progress(results, desc="Comparing pictures", total=len(cases), unit="picture")
            for case, result in zip(cases, bar, strict=True):
                if isinstance(result, Problem):
                    problems.append(result)
                else:
                    readable.append(case)
                    hashes.append(result)
        grouped, duplicates = group_pictures(readable, hashes)
        return grouped, problems + duplicates

    @classmethod
    def check(cls, case: CaseFiles) -> list[Problem]:
        """Return the problem of a picture whose mask has another size, or that cannot be read."""
        sizes: list[tuple[int, int]] = []
        for path in case.files:
            try:
                sizes.append(_upright_size(path))
            except PictureError as error:
                return [Problem(path, f"unreadable ({str(error).removeprefix(f'{path} ')})")]
        if sizes[0] == sizes[-1]:
            return []
        (width, height), (mask_width, mask_height) = sizes[0], sizes[-1]
        what = f"the mask is {mask_width} x {mask_height} pixels, and its picture {width} x {height}"
        return [Problem(case.masks[0], what)]

    @classmethod
    def read(cls, case: CaseFiles) -> Volume:
        picture = read_picture(case.images[0], colour=True)
        volume = picture_volume(case.key, picture.pixels, COLOURS[0])
        if not case.masks:
            return replace(volume, remarks=picture.notes)
        mask = decode_mask(case.masks[0], read_mask(case.masks[0]), case.labels or ())
        return replace(volume, mask=mask[None], remarks=picture.notes)


class Shapes(ImageMasks):
    """Generated pictures of shapes with masks, in folders train, val and test."""

    Settings = ShapesSettings
    settings: ShapesSettings  # type: ignore[assignment]

    def discover(self, root: Path) -> Discovered:
        as_folder = ImageMasksSettings(kind="image_masks", name=self.settings.name, duplicates="ignore")
        return ImageMasks(as_folder).discover(root)

    def fetch(self, root: Path, groups: Collection[str], faulty: Collection[Path], runtime: Runtime) -> None:
        for path in faulty:
            path.unlink(missing_ok=True)
        write_shapes(root, self.settings)


@dataclass(frozen=True)
class _File:
    path: Path
    is_mask: bool
    place: Place


Pair = tuple[Path, Path, Place]
"""Picture and mask, and where they belong"""


def pair_masks(
    root: Path, paths: Iterable[Path], images: str | None = None, masks: str | None = None
) -> tuple[list[Pair], list[Problem]]:
    """Return the pictures with their masks, and the files that are left out.

    `images` and `masks` are the names of their folders, in lower case; None: the usual ones.
    """
    files = [_classify(path, path.relative_to(root), images, masks) for path in paths]
    pictures: dict[Place, list[_File]] = defaultdict(list)
    for file in files:
        if not file.is_mask:
            pictures[file.place].append(file)
    masks_of: dict[Place, list[Path]] = defaultdict(list)
    problems: list[Problem] = []
    for file in files:
        if file.is_mask:
            place = _place_of_picture(file.place, pictures)
            masks_of[place].append(file.path)
            if place not in pictures:
                problems.append(Problem(file.path, _NO_PICTURE))
    pairs: list[Pair] = []
    for place, (first, *others) in pictures.items():
        found = masks_of.get(place, [])
        problems += [Problem(other.path, _TWICE) for other in others]
        if len(found) == 1:
            pairs.append((first.path, found[0], place))
        else:
            problems.append(Problem(first.path, _SEVERAL if found else _NO_MASK))
    return pairs, problems


def _classify(path: Path, inner: Path, images: str | None, masks: str | None) -> _File:
    folders, stem = [name.lower() for name in inner.parts[:-1]], path.stem.lower()
    named = {images: False, masks: True}
    kinds = [named.get(name, _folder_kind(name, images, masks)) for name in folders]
    known = [kind for kind in kinds if kind is not None]
    by_name = _stem_of_picture(stem) is not None
    is_mask = known[-1] if known else by_name
    places = ("" if name in named else _without_words(name) for name in folders)
    return _File(path, is_mask, (tuple(filter(None, places)), stem))


def _folder_kind(name: str, images: str | None, masks: str | None) -> bool | None:
    """Return True for the name of a folder of masks, False for one of pictures, else None."""
    words = {*_words(name)}
    if masks is None and words & _OF_MASKS:
        return True
    return False if images is None and words & _OF_IMAGES else None


def _words(name: str) -> list[str]:
    return _WORD.findall(_SPELLINGS.get(name, name))


def _without_words(name: str) -> str:
    kept = (word for word in _words(name) if word not in _OF_IMAGES | _OF_MASKS)
    return "".join(kept).strip(_SEPARATORS)


def _stem_of_picture(stem: str) -> str | None:
    """Return the name of a mask without its first or last word for masks; None for any other name."""
    words = _words(stem)
    if words[-1] in _OF_MASKS:
        return "".join(words[:-1]).strip(_SEPARATORS)
    return "".join(words[1:]).strip(_SEPARATORS) if words[0] in _OF_MASKS else None


def _place_of_picture(place: Place, pictures: Mapping[Place, object]) -> Place:
    """Return the place of the picture that a mask belongs to: of its name, or without words for masks."""
    folders, stem = place
    bare = _stem_of_picture(stem) or stem
    candidates = [stem, bare, *(f"{word}{mark}{bare}" for word in ("image", "img") for mark in "_- ")]
    candidates += [f"{bare}{mark}{word}" for word in ("image", "img", "input") for mark in "_- "]
    return next(((folders, name) for name in candidates if (folders, name) in pictures), (folders, bare))


def _read_values(masks: Sequence[Path], problems: list[Problem]) -> dict[Path, tuple[int, ...]]:
    """Return the values in each mask that can be read; the others become problems."""

    def try_values(path: Path) -> tuple[int, ...] | Problem:
        try:
            return tuple(np.unique(read_mask(path)).tolist())
        except PictureError as error:
            return Problem(path, str(error).removeprefix(str(path)).lstrip(" :"))

    values: dict[Path, tuple[int, ...]] = {}
    with ThreadPoolExecutor() as pool:
        bar = progress(pool.map(try_values, masks), desc="Reading masks", total=len(masks), unit="mask")
        for path, result in zip(masks, bar, strict=True):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                values[path] = result
    return values


def _try_hash(path: Path) -> "PictureHash | Problem":
    try:
        return hash_picture(path)
    except PictureError as error:
        return Problem(path, str(error).removeprefix(str(path)).lstrip(" :"))


def _upright_size(path: Path) -> tuple[int, int]:
    """Return width and height of a picture as it is shown."""
    with open_picture(path) as image:
        width, height = image.size
        sideways = image.getexif().get(_EXIF_ORIENTATION, 1) in _SIDEWAYS
    return (height, width) if sideways else (width, height)
