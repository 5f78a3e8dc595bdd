"""Pictures sorted into folders by their class, as public sets on Kaggle are.

    brain_tumor_dataset/yes/Y1.jpg              brain_tumor_dataset/no/1 no.jpeg
    Training/glioma_tumor/gg (1).jpg            Testing/no_tumor/image(1).jpg

The nearest folder named after a class gives the label; folders such as Br35H's `pred` have none
and are left out. Nothing names a patient, so near-identical pictures form a group.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from slicewise.config.schema.sources import YES_NO, ClassFoldersSettings, SourceSettings
from slicewise.core.console import progress
from slicewise.core.errors import DataError, PictureError
from slicewise.data.cases import CaseFiles
from slicewise.data.filenames import image_stem_of_mask, is_mask_folder, is_mask_name
from slicewise.data.problems import Problem, summarise_problems
from slicewise.data.sources.base import Discovered, Source
from slicewise.domain.keys import CaseKey, safe_name
from slicewise.domain.labels import COLOURS, GREY
from slicewise.imaging.io.file_format import looks_like_picture
from slicewise.imaging.io.image2d import read_picture
from slicewise.imaging.volume import Volume, picture_volume

if TYPE_CHECKING:
    from slicewise.data.duplicates import PictureHash

_EXPECTED: Final = (
    "pictures in folders named yes and no (or tumor and no_tumor, or glioma_tumor, meningioma_tumor, "
    "pituitary_tumor and no_tumor)"
)
_MASK: Final = "a mask, or a picture made from one, by its name or its folder's; not a picture of a patient"
_UNGROUPED: Final = (
    "duplicates are ignored: the same picture, or another of the same patient, may be in train and in test, "
    "so the scores are too optimistic"
)

_ALSO = r"(brain|mris?|images?|imgs?|pictures?|photos?|scans?|slices?|cases?|patients?|class(es)?)*"
"""Neutral words before and after: `Brain Tumor Images`."""
_TUMOUR = r"tumou?r(s|ous)?"
_KIND = r"(gliomas?|meningiomas?|pituitary|metastas[ie]s)"
_ANY = rf"{_ALSO}(yes|positive?|{_TUMOUR}){_ALSO}"
_YES = rf"{_ANY}|{_ALSO}{_KIND}{_ALSO}({_TUMOUR})?{_ALSO}"
_NO = rf"no|none|{_ALSO}(negative?|normal|healthy|(no|non|not|without){_ALSO}{_TUMOUR}){_ALSO}"
"""A bare "no" stands alone: `no_mri` is not a folder of healthy brains, and `Patient No 12` is a number."""


class ClassFolders(Source[ClassFoldersSettings]):
    """Single pictures, recognised by their content, in folders named by their class."""

    Settings: ClassVar[type[SourceSettings]] = ClassFoldersSettings

    @classmethod
    def reads(cls, path: Path) -> bool:
        return looks_like_picture(path)

    def discover(self, root: Path) -> Discovered:
        """Return the pictures below `root`, each once, near-identical ones in one group, and the problems.

        With `duplicates: ignore` every file is a group of its own.

        Raises:
            DataError: there is no folder, or it holds no readable picture under yes and no.
        """
        from slicewise.data.duplicates import group_pictures

        labelled, problems = label_pictures(root, self.read_files(root), self.settings.class_names)
        problems += self.skipped_files(root)
        readable = _hash_pictures(labelled, problems)
        if not readable:
            reasons = summarise_problems(problems)
            raise DataError(
                f"{root} holds no readable picture with a label; expected {self._expected}{reasons}"
            )
        self._require_each_class(root, {label for _, label, _ in readable})
        cases = self._cases(root, readable)
        if self.settings.duplicates == "group":
            cases, duplicates = group_pictures(cases, [picture for _, _, picture in readable])
        else:
            duplicates = [Problem(root, _UNGROUPED, "warning")]
        if len({case.label for case in cases}) < 2:
            what = "all pictures have the same label: no classification possible"
            problems.append(Problem(root, what, "warning"))
        return cases, problems + duplicates

    @property
    def _expected(self) -> str:
        return (
            _EXPECTED
            if len(self.settings.class_names) == 2
            else f"pictures in folders named {', '.join(self.settings.class_names)}"
        )

    def _require_each_class(self, root: Path, labels: Collection[int]) -> None:
        """Require pictures of each of several classes: what is never seen cannot be learned."""
        if len(self.settings.class_names) > 2 and len(labels) < len(self.settings.class_names):
            missing = [name for number, name in enumerate(self.settings.class_names) if number not in labels]
            folders = sorted({path.parent.name for path in self.read_files(root)})
            raise DataError(
                f"{root}: no picture of the class {' and '.join(missing)}; its folders are "
                f"{', '.join(folders)}; set tasks.classification.classes=[...] to the classes that there are"
            )

    def _cases(self, root: Path, readable: "list[tuple[Path, int, PictureHash]]") -> list[CaseFiles]:
        # Named by path; where two are equal, with a digest of the content; copies in one folder are numbered.
        names = [safe_name("-".join(path.relative_to(root).with_suffix("").parts)) for path, *_ in readable]
        common = Counter(map(str.lower, names))
        for place, (path, _, picture) in enumerate(readable):
            if common[names[place].lower()] > 1:
                names[place] = safe_name(f"{names[place]}-{path.suffix[1:]}-{picture.digest[:8]}")
        source, slots = self.settings.name, (self.settings.slot,)
        return [
            CaseFiles(CaseKey(source, name, name), "class_folders", slots, (path,), (), label, name)
            for name, (path, label, _) in zip(number_repeated(names), readable, strict=True)
        ]

    @classmethod
    def read(cls, case: CaseFiles) -> Volume:
        picture = read_picture(case.images[0], colour=case.modalities[0] in (GREY, *COLOURS))
        volume = picture_volume(case.key, picture.pixels, case.modalities[0], case.label)
        return replace(volume, remarks=picture.notes, colour=picture.colour)


def label_pictures(
    root: Path, paths: Collection[Path], classes: Sequence[str] = YES_NO
) -> tuple[list[tuple[Path, int]], list[Problem]]:
    """Return the pictures with a label from their folder; those without, and masks, are notes."""
    masks = find_masks(root, paths)
    images = [path for path in paths if path not in masks]
    labels = label_folders({path.relative_to(root).parent for path in images}, classes)
    problems = [Problem(path, _MASK, "note") for path in paths if path in masks]
    labelled: list[tuple[Path, int]] = []
    others: Counter[Path] = Counter()
    for path in images:
        label = labels[path.relative_to(root).parent]
        if label is None:
            others[path.parent] += 1
        else:
            labelled.append((path, label))
    for folder, number in others.items():
        named = "neither yes nor no" if len(classes) == 2 else f"none of {', '.join(classes)}"
        what = f"{number} pictures without a label (the folder is named {named})"
        problems.append(Problem(folder, what, "note" if len(classes) == 2 else "warning"))
    return labelled, problems


def find_masks(root: Path, paths: Collection[Path]) -> set[Path]:
    """Return the pictures that are masks, or made from one, by their names, folders or neighbours.

    Folders above `root` do not count; with `root` Path() none does.
    """
    stems = {(path.parent, path.stem.lower()) for path in paths}
    return {
        path
        for path in paths
        if is_mask_name(path.stem)
        or (root != Path() and any(map(is_mask_folder, path.relative_to(root).parts[:-1])))
        or (path.parent, image_stem_of_mask(path.stem)) in stems
    }


def _hash_pictures(
    labelled: list[tuple[Path, int]], problems: list[Problem]
) -> "list[tuple[Path, int, PictureHash]]":
    """Return the readable pictures with label and hash, decoded in threads; the others become problems."""
    from slicewise.data.duplicates import PictureHash, hash_picture

    def try_hash(path: Path) -> PictureHash | str:
        try:
            return hash_picture(path)
        except PictureError as error:
            return str(error).removeprefix(str(path)).lstrip(" :")

    readable = []
    with ThreadPoolExecutor() as pool:
        results = pool.map(try_hash, (path for path, _ in labelled))
        bar = progress(results, desc="Comparing pictures", total=len(labelled), unit="picture")
        for (path, label), result in zip(labelled, bar, strict=True):
            if isinstance(result, PictureHash):
                readable.append((path, label, result))
                problems += [Problem(path, note, "warning") for note in result.notes]
            else:
                problems.append(Problem(path, result))
    return readable


def number_repeated(names: Iterable[str]) -> list[str]:
    """Return the names, of which repeated ones (in any letter case) end in -2, -3, ..."""
    numbered: dict[str, str] = {}
    for name in names:
        choices = chain([name], (f"{name}-{number}" for number in count(2)))
        unique = next(choice for choice in choices if choice.lower() not in numbered)
        numbered[unique.lower()] = unique
    return [*numbered.values()]


def parse_label(folder: str, classes: Sequence[str] = YES_NO) -> int | None:
    """Return the number of the class that a folder is named after; None where it is none.

    `Glioma Tumor Images` is glioma; `notumor`, `Normal` and `no` are a class called none or no_tumour, and
    of two classes the first; `yes`, and any kind of tumour that is no class of its own, are tumour.
    """
    names = {re.sub(f"[^{kept}]", "", folder.lower()) for kept in ("a-z0-9", "a-z")}
    found = (number for number, pattern in _patterns(tuple(classes)) if any(map(pattern.fullmatch, names)))
    return next(found, None)


@lru_cache
def _patterns(classes: tuple[str, ...]) -> list[tuple[int, re.Pattern[str]]]:
    """Return the patterns of the names of folders with the number of their class, the closest first."""
    exact, named, alike = [], [], []
    for number, each in enumerate(classes):
        name = re.sub(r"[^a-z0-9]", "", each.lower())
        exact.append((number, re.escape(name)))
        if re.fullmatch(_NO, name) or (len(classes) == 2 and number == 0):
            alike.append((number, _NO))
        elif re.fullmatch(_ANY, name) or len(classes) == 2:
            alike.append((number, _YES))
        named.append((number, rf"{_ALSO}{re.escape(name)}s?{_ALSO}({_TUMOUR})?{_ALSO}"))
    return [(number, re.compile(pattern)) for number, pattern in (*exact, *named, *alike)]


def label_folders(folders: Collection[Path], classes: Sequence[str] = YES_NO) -> dict[Path, int | None]:
    """Return the label of the pictures in each folder, given relative to the root of the data set.

    The nearest labelled folder decides. One that holds labelled folders names the set, as in
    `Brain Tumor/no_tumor`: it decides only for the pictures directly in it. The name of the root does not
    count, and nothing below a folder `pred` has a label: it holds pictures to be examined.
    """
    around = {above for folder in folders for above in (folder, *folder.parents)}
    labels = {folder: label for folder in around if (label := parse_label(folder.name, classes)) is not None}
    sets = {above for folder in labels for above in folder.parents}
    labelled: dict[Path, int | None] = dict.fromkeys(folders)
    for folder in folders:
        nearest = next((above for above in (folder, *folder.parents) if above in labels), None)
        is_set = nearest in sets and nearest != folder
        if nearest is not None and not is_set and "pred" not in map(str.lower, folder.parts):
            labelled[folder] = labels[nearest]
    return labelled
