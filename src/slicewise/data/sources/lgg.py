"""LGG MRI Segmentation, the folder kaggle_3m (Buda, Saha and Mazurowski 2019).

    TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_7.tif         pre-contrast, FLAIR, post-contrast as RGB
    TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_7_mask.tif    0 or 255

Slices are numbered from the neck upwards. The patient is TCGA_CS_4941; what follows is the date of the scan.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema.sources import LggSettings
from slicewise.core.errors import DataError, PictureError, VolumeError
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.data.sources.base import Discovered, Source
from slicewise.domain.keys import CaseKey, safe_name
from slicewise.domain.labels import EDEMA, NUM_MODALITIES, Modality, modality_slot
from slicewise.imaging.io.image2d import open_picture
from slicewise.imaging.mask_values import decode_tumour
from slicewise.imaging.volume import UNIT_SPACING, Volume

CHANNELS: Final[tuple[Modality, ...]] = ("t1", "flair", "t1ce")
_EXPECTED: Final = "folders of the LGG set kaggle_3m: TCGA_..._7.tif beside TCGA_..._7_mask.tif"
_NO_MASK: Final = "a slice without its mask, left out"
_NO_SLICE: Final = "a mask without its slice, ignored"
_NAME = re.compile(r"(?P<case>.+)_(?P<number>\d+)(?P<mask>_mask)?\.tiff?", re.IGNORECASE)
_PATIENT = re.compile(r"(?P<patient>TCGA_[A-Z0-9]{2}_[A-Z0-9]{4})_\d{8}", re.IGNORECASE)


@dataclass(frozen=True)
class SliceName:
    """The parts of the name of a slice or mask."""

    case: str
    number: int
    is_mask: bool


def parse_name(name: str) -> SliceName | None:
    """Return the parts of a name such as `TCGA_CS_4941_19960909_7_mask.tif`; None for any other form."""
    match = _NAME.fullmatch(name)
    return SliceName(match["case"], int(match["number"]), bool(match["mask"])) if match else None


def patient_of(case: str) -> str:
    """Return the patient of a case: the name without the date of the scan."""
    match = _PATIENT.fullmatch(case)
    return match["patient"] if match else case


def is_slice_name(name: str) -> bool:
    """Whether a name has the form of kaggle_3m: a patient of TCGA, a date and a number."""
    parsed = parse_name(name)
    return parsed is not None and not parsed.is_mask and patient_of(parsed.case) != parsed.case


class Lgg(Source[LggSettings]):
    """A slice per TIFF whose colours are three modalities, with a mask beside it."""

    Settings = LggSettings
    suffixes = (".tif", ".tiff")

    def discover(self, root: Path) -> Discovered:
        """Return the cases below `root`, in natural order, and the problems.

        Slices without a mask are left out.

        Raises:
            DataError: there is no folder, or no case in it.
        """
        from slicewise.data.duplicates import drop_copies

        problems: list[Problem] = []
        drafts: dict[tuple[Path, str], _Draft] = {}
        for path in self.read_files(root):
            name = parse_name(path.name)
            if name is None:
                problems.append(Problem(path, "neither a slice nor a mask, ignored", "note"))
                continue
            draft = drafts.setdefault((path.parent, name.case.lower()), _Draft(name.case, path.parent))
            (draft.masks if name.is_mask else draft.images)[name.number] = path
        unique = _without_repeats(list(drafts.values()), problems)
        cases = [case for draft in unique if (case := draft.case(self.settings.name, problems))]
        if not cases:
            raise DataError(f"{root} holds no slice with a mask; expected {_EXPECTED}")
        distinct, copied = drop_copies(cases)
        return distinct, [*problems, *copied, *self.skipped_files(root)]

    @classmethod
    def check(cls, case: CaseFiles) -> list[Problem]:
        """Return the files that cannot be read, and those of another size than the first."""
        problems: list[Problem] = []
        sizes: dict[Path, tuple[int, int]] = {}
        for path in case.files:
            try:
                with open_picture(path, ("TIFF",)) as image:
                    sizes[path] = image.size
            except PictureError as error:
                problems.append(Problem(path, f"unreadable ({str(error).removeprefix(f'{path} ')})"))
        first = next(iter(sizes.values()), None)
        for path, size in sizes.items():
            if size != first:
                problems.append(Problem(path, f"{size[0]} x {size[1]} pixels, unlike the first slice"))
        return problems

    @classmethod
    def read(cls, case: CaseFiles) -> Volume:
        """Return the channels in their slots; one that repeats FLAIR is missing by convention."""
        stack = _stack(case.images, masks=False)
        images = np.zeros((NUM_MODALITIES, *stack.shape[:3]), np.uint8)
        flair = stack[..., case.modalities.index("flair")]
        for channel, modality in enumerate(case.modalities):
            sequence = stack[..., channel]
            if modality == "flair" or not np.array_equal(sequence, flair):
                images[modality_slot(modality)] = sequence
        presence = tuple(bool(image.any()) for image in images)
        labels, remark = None, None
        if case.masks:
            masks = _stack(case.masks, masks=True)
            if masks.shape != stack.shape[:3]:
                raise VolumeError(
                    f"{case.folder}: masks are {masks.shape} and slices are {stack.shape[:3]}; fetch it again"
                )
            tumour, remark = decode_tumour(case.folder, masks)
            labels = np.where(tumour, np.uint8(EDEMA), np.uint8(0))
        remarks = (remark,) if remark else ()
        return Volume(case.key, images, presence, labels, None, UNIT_SPACING, None, remarks)


@dataclass
class _Draft:
    """The slices of one case while they are collected, by number."""

    name: str
    folder: Path
    images: dict[int, Path] = field(default_factory=dict)
    masks: dict[int, Path] = field(default_factory=dict)
    copies: list[Path] = field(default_factory=list)

    def case(self, source: str, problems: list[Problem]) -> CaseFiles | None:
        numbers = sorted(self.images.keys() & self.masks.keys())
        known = self.images.keys() | self.masks.keys()
        problems += [Problem(path, _NO_MASK) for n, path in self.images.items() if n not in self.masks]
        problems += [Problem(path, _NO_SLICE) for n, path in self.masks.items() if n not in self.images]
        if not numbers:
            return None
        if absent := sorted(set(range(min(known), max(known))) - known):
            what = f"slice {', '.join(map(str, absent))} is missing in the numbering"
            problems.append(Problem(self.folder, what, "warning"))
        name = safe_name(self.name)
        patient = patient_of(name)
        return CaseFiles(
            key=CaseKey(source, patient, name),
            kind="lgg",
            modalities=CHANNELS,
            images=tuple(self.images[number] for number in numbers),
            masks=tuple(self.masks[number] for number in numbers),
            label=None,
            group=patient,
            copies=tuple(self.copies),
        )


def _without_repeats(drafts: list[_Draft], problems: list[Problem]) -> list[_Draft]:
    """Return the most complete folder of each case: the archive on Kaggle holds the whole set twice."""
    best: dict[str, _Draft] = {}
    for draft in sorted(drafts, key=lambda draft: -len(draft.images.keys() & draft.masks.keys())):
        first = best.setdefault(safe_name(draft.name).lower(), draft)
        if first is not draft:
            first.copies += list(draft.images.values())[:1]
            problems.append(Problem(draft.folder, "the same case again, ignored", "note"))
    return [draft for draft in drafts if best[safe_name(draft.name).lower()] is draft]


def _stack(paths: tuple[Path, ...], *, masks: bool) -> NDArray[Any]:
    """Return RGB slices [slice, row, col, 3], or masks [slice, row, col] in the values that they store.

    Of a mask in colours, the brightest channel is taken.
    """
    arrays: list[NDArray[Any]] = []
    for path in paths:
        try:
            with open_picture(path, ("TIFF",)) as image:
                if not masks and image.mode != "RGB":
                    raise VolumeError(f"{path} has mode {image.mode}, not RGB; is it a slice of kaggle_3m?")
                if image.mode.startswith(("I", "F")) or image.mode == "L":
                    array: NDArray[Any] = np.asarray(image)
                else:
                    array = np.asarray(image.convert("RGB"), np.uint8)
                arrays.append(array.max(-1) if masks and array.ndim > 2 else array)
        except PictureError as error:
            raise VolumeError(f"{path} is unreadable: {error}") from error
    for path, array in zip(paths, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise VolumeError(
                f"{path} is {array.shape} and {paths[0]} is {arrays[0].shape}; fetch the case again"
            )
    return np.stack(arrays)
