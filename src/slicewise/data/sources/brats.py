"""BraTS as unpacked, in any nesting (Menze 2015, Bakas 2017, Baid 2021), and other patients named likewise.

    Brats18_2013_21_1/Brats18_2013_21_1_t1ce.nii.gz          patient, visit _1, modality
    BraTS20_Training_001/BraTS20_Training_001_flair.nii
    BraTS2021_00006/BraTS2021_00006_seg.nii.gz
    BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz       2023: t1n t1c t2w t2f; visit -000
    anat/sub-01_T1w.nii.gz, sub-01_ce-gadolinium_T1w.nii.gz  names of BIDS

`data.filenames` reads the names. Virtual patients (Phantom_00012) are laid out the same way.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from slicewise.config.schema.sources import BratsSettings, SourceSettings
from slicewise.core.errors import DataError
from slicewise.data.cases import CaseFiles
from slicewise.data.filenames import SUFFIXES
from slicewise.data.grouping import CaseDraft, NamedFile, group_files, select_images, select_mask
from slicewise.data.problems import Problem, Severity, summarise_problems
from slicewise.data.sources.base import Discovered, Source, note_skipped, partition_files
from slicewise.domain.keys import CaseKey, safe_name
from slicewise.domain.labels import LABEL_FORMATS, MODALITIES, LabelMap

if TYPE_CHECKING:
    from slicewise.imaging.io.nifti_header import NiftiHeader
    from slicewise.imaging.volume import Volume

_EXPECTED: Final = (
    "BraTS cases: folders with ..._t1, ..._t1ce, ..._t2, ..._flair (2023: -t1n -t1c -t2w -t2f) and ..._seg "
    "as .nii or .nii.gz"
)
_UNIDENTIFIED: Final = "neither a modality nor a mask, ignored"
_OTHER: Final = "another image than t1, t1ce, t2, flair or the tumour's mask, ignored"
_SLICES_OF_A_VOLUME: Final = 160
_RELEASE = re.compile(r"brats(\d\d|\d{4})_|brats-gli-", re.IGNORECASE)
_PAEDIATRIC = re.compile(r"brats-ped-", re.IGNORECASE)
_FROM_2023 = re.compile(r"brats-[a-z]+-.*\d", re.IGNORECASE)


class Brats(Source[SourceSettings]):
    """NIfTI volumes, one per modality, with a mask."""

    Settings: ClassVar[type[SourceSettings]] = BratsSettings
    suffixes = SUFFIXES

    @property
    def _labels(self) -> LabelMap | None:
        """The meaning of the mask values; None: the names and values of the files define it."""
        labels = getattr(self.settings, "labels", "auto")
        if isinstance(labels, str):
            return LABEL_FORMATS.get(labels)
        return tuple((int(value), label) for value, label in labels.items())

    def discover(self, root: Path) -> Discovered:
        """Return the cases with a mask below `root`, in natural order, and the problems.

        A case without a mask is left out; a missing modality leaves its slot empty.

        Raises:
            DataError: there is no folder, no case, no case with a mask, or the masks have other values than
                in BraTS and `labels` is not set.
        """
        from slicewise.data.duplicates import drop_copies

        files, others = partition_files(root, self.reads)
        gathered = group_files(files, root, mask_name=getattr(self.settings, "mask", None))
        problems = gathered.problems
        problems += [Problem(path, _UNIDENTIFIED, "note") for path in gathered.unidentified]
        problems += [Problem(path, _OTHER, "note") for path in gathered.others]
        drafts = [draft for draft in gathered.drafts if draft.images]
        strays = [mask for draft in gathered.drafts if not draft.images for mask in draft.masks]
        _adopt_masks(drafts, strays, problems)
        if not drafts:
            raise DataError(f"{root} holds no case; expected {_EXPECTED}{summarise_problems(problems)}")
        with_mask = [draft for draft in _without_repeats(drafts, problems) if draft.masks]
        cases = [case for draft in with_mask if (case := self._case(draft, problems))]
        if not cases:
            raise DataError(_no_mask(root, drafts, problems))
        paediatric = [case.key.case for case in cases if _PAEDIATRIC.match(case.key.case)]
        if paediatric and self._labels is None:
            raise DataError(
                f"{root} holds {len(paediatric)} cases of BraTS-PED, such as {paediatric[0]}, whose labels "
                "mean 1 enhancing, 2 non-enhancing, 3 cyst, 4 edema; set data.sources.volumes."
                "labels=brats_ped (or brats2023 where they were relabelled)"
            )
        unique, copied = drop_copies(cases)
        mixed = [] if self.settings.is_generated else _warn_mixed_releases(root, unique)
        return unique, [*problems, *copied, *mixed, *note_skipped(others)]

    @classmethod
    def check(cls, case: CaseFiles) -> list[Problem]:
        # A plan lists the files, and reads none of them: numpy and nibabel are imported where they are read.
        from slicewise.imaging.io.nifti_header import NiftiError
        from slicewise.imaging.orientation import compare_grids

        problems: list[Problem] = []
        headers: list[NiftiHeader] = []
        for path in case.files:
            try:
                header = _check_length(path)
            except NiftiError as fault:
                problems.append(Problem(path, fault.message))
            else:
                headers.append(header)
                problems += [Problem(path, what, "warning") for what in header.warnings]
        for other in headers[1:]:
            mismatch = compare_grids(headers[0].path.name, headers[0].orientation, other.orientation)
            if mismatch is not None:
                severity: Severity = "warning" if mismatch.usable else "error"
                problems.append(Problem(other.path, mismatch.message, severity))
        return problems

    @classmethod
    def read(cls, case: CaseFiles) -> "Volume":
        from slicewise.imaging.volume import read_nifti_case

        mask = case.masks[0] if case.masks else None
        return read_nifti_case(case.key, case.modalities, case.images, mask, case.labels)

    @classmethod
    def num_slices(cls, case: CaseFiles) -> int:
        return _SLICES_OF_A_VOLUME

    def _case(self, draft: CaseDraft, problems: list[Problem]) -> CaseFiles | None:
        images, image_problems = select_images(draft)
        mask, mask_problems = select_mask(draft)
        problems += image_problems + mask_problems
        if mask is None:
            return None
        if missing := [modality for modality in MODALITIES if modality not in images]:
            what = f"no {', '.join(missing)}: the slot stays empty"
            problems.append(Problem(draft.folder, what, "warning"))
        # From the parsed name: a safe name may end in a digest in place of the visit.
        patient = safe_name(draft.patient)
        return CaseFiles(
            key=CaseKey(self.settings.name, patient, safe_name(draft.name)),
            kind="brats",
            modalities=tuple(images),
            images=tuple(images.values()),
            masks=(mask,),
            label=None,
            group=patient,
            labels=self._labels or (LABEL_FORMATS["brats2023"] if _FROM_2023.match(draft.name) else None),
            copies=tuple(draft.copies),
        )


def _warn_mixed_releases(root: Path, cases: Iterable[CaseFiles]) -> list[Problem]:
    """Return a warning where the names are those of several releases, which have patients in common."""
    matches = filter(None, (_RELEASE.match(case.key.case) for case in cases))
    prefixes = sorted({match[0].lower(): match[0] for match in matches}.values())
    what = (
        f"names of several releases ({', '.join(prefixes)}), which have patients in common: a patient whose "
        "files were saved again is not recognised and may be in train and in test; keep one release"
    )
    return [Problem(root, what, "warning")] if len(prefixes) > 1 else []


def _adopt_masks(drafts: Sequence[CaseDraft], strays: Sequence[NamedFile], problems: list[Problem]) -> None:
    """Assign masks apart from the images to the case that they name or to the only case of their folder.

    The first as in UPENN-GBM (`images_segm/`) and nnU-Net (`labelsTr/`), the second as in BraTS20 355.
    """
    by_name: dict[str, list[CaseDraft]] = defaultdict(list)
    by_folder: dict[Path, list[CaseDraft]] = defaultdict(list)
    for draft in drafts:
        by_name[draft.name.lower()].append(draft)
        by_folder[draft.folder].append(draft)
    without = {id(draft) for draft in drafts if not draft.masks}
    for mask in strays:
        named, there = by_name[mask.name.case.lower()], by_folder[mask.path.parent]
        if len(named) == 1 and id(named[0]) in without:
            named[0].masks.append(mask)
        elif len(there) == 1 and id(there[0]) in without:
            there[0].masks.append(mask)
            problems.append(Problem(mask.path, "named unlike its case, taken as its mask", "warning"))
        else:
            problems.append(Problem(mask.path, "a mask without images, ignored", "note"))


def _without_repeats(drafts: Sequence[CaseDraft], problems: list[Problem]) -> list[CaseDraft]:
    """Return one draft per case, one with a mask where there is one; the others become problems."""
    by_case: dict[str, CaseDraft] = {}
    for draft in sorted(drafts, key=lambda draft: not draft.masks):
        first = by_case.setdefault(safe_name(draft.name).lower(), draft)
        if first is not draft:
            first.copies += [file.path for file in next(iter(draft.images.values()))[:1]]
            problems.append(Problem(draft.folder, f"the case {draft.name} again, ignored", "note"))
        elif not draft.masks:
            problems.append(Problem(draft.folder, "no mask (..._seg.nii)"))
    return [draft for draft in drafts if by_case[safe_name(draft.name).lower()] is draft]


def _no_mask(root: Path, drafts: Sequence[CaseDraft], problems: Sequence[Problem]) -> str:
    if unclear := [problem.what for problem in problems if "volumes.mask" in problem.what]:
        several = f"in {len(unclear)} several files may be it. {unclear[0]}"
        return f"{root} holds {len(drafts)} cases, none with a mask: {several}"
    return (
        f"{root} holds {len(drafts)} cases and none has a mask (..._seg.nii), as in validation folders: "
        "choose the training folder, or name the masks with data.sources.volumes.mask='*PATTERN*'"
    )


def _check_length(path: Path) -> "NiftiHeader":
    """Return the header of a file that is long enough for its voxels.

    Raises:
        NiftiError: the file is damaged, truncated or of another format.
    """
    from slicewise.imaging.io.nifti_header import NiftiError, open_nifti

    with open_nifti(path, header_only=True) as (header, stream):
        size = path.stat().st_size
        if header.compressed and _trailer_fits(header):
            size = header.num_bytes
        elif header.compressed:
            size = len(header.orientation.header)
            while size < header.num_bytes and (chunk := stream.read(1 << 20)):
                size += len(chunk)
    if size < header.num_bytes:
        promised = f"its header promises {header.num_bytes:,} bytes and it holds {size:,}"
        raise NiftiError(path, f"truncated: {promised}; copy or fetch the file again")
    return header


def _trailer_fits(header: "NiftiHeader") -> bool:
    """Whether the size in the gzip trailer fits the header (RFC 1952: modulo 2^32).

    A file of several gzip members ends in the size of the last one: it must be decompressed to be measured.
    """
    with header.path.open("rb") as stream:
        stream.seek(-4, 2)
        stated = int.from_bytes(stream.read(4), "little")
    return (stated - header.num_bytes) % (1 << 32) < (1 << 20)
