"""Frames of DICOM files: where each lies in the patient, and what its tags tell of the sequence.

A file holds one frame, or many with functional groups (enhanced MR). No pixels are read. Names of tags are
the keywords of DICOM PS3.6, positions are mm in the patient's system (LPS: left, posterior, superior).
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias
from warnings import catch_warnings

from slicewise.core.errors import VolumeFileError
from slicewise.imaging.io.file_format import PICTURE_SUFFIXES, read_head
from slicewise.imaging.io.nifti_header import MAX_VOXELS
from slicewise.imaging.orientation import format_sizes

Vector: TypeAlias = tuple[float, ...]
SUFFIXES: Final = (".dcm", ".dicom", ".ima")
"""Of files that are DICOM even without the magic word at byte 128, as very old programs write them."""
DIRECTORY: Final = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR."""
_MR_CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4",
}  # fmt: skip
"""MR image, enhanced MR image, legacy converted enhanced MR image."""
_GROUPS: Final[Mapping[str, str]] = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "RepetitionTime": "MRTimingAndRelatedParametersSequence",
    "InversionTimes": "MRModifierSequence",
    "FrameType": "MRImageFrameTypeSequence",
    "AcquisitionContrast": "MRImageFrameTypeSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "DiffusionBValue": "MRDiffusionSequence",
}
"""Tags of a frame in a file of many -> the functional group that holds them (PS3.3 C.7.6.16, C.8.13)."""
_PLAIN: Final = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Modality"),
    *("FrameOfReferenceUID", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "ImageType"),
    *("PhotometricInterpretation", "SeriesDescription", "ProtocolName", "EchoTime", "InversionTime"),
    *("ScanningSequence", "ContrastBolusAgent", "ContrastBolusAgentSequence", "EchoPulseSequence"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "PatientID", "PatientIdentityRemoved"),
)
_SPLITTING: Final = (
    ("EchoTime", "EffectiveEchoTime"),
    ("InversionTime", "InversionTimes"),
    ("DiffusionBValue",),
    ("TemporalPositionIdentifier", "TemporalPositionIndex"),
    ("ImageType", "FrameType"),
    ("StackID",),
    ("AcquisitionNumber", "FrameAcquisitionNumber"),
)
"""Tags that may tell apart frames at one position, in the order in which they are tried."""
_NO_AGENT: Final = {"", "no", "none", "n", "without", "n/a"}


class DicomError(VolumeFileError):
    """An unusable file or series."""


@dataclass(frozen=True)
class Acquisition:
    """What the tags of a frame tell of its sequence; empty or None where they are absent."""

    description: str
    protocol: str
    image_type: tuple[str, ...]
    contrast: str
    """AcquisitionContrast of enhanced files, such as `T2`"""
    agent: bool
    """Whether a contrast agent is named"""
    echo_ms: float | None
    repetition_ms: float | None
    inversion_ms: float | None
    sequences: tuple[str, ...]
    """ScanningSequence, such as `SE`, `IR`; `GR` also for gradient echoes of enhanced files"""
    patient: str
    """PatientID where the file says that it is no identity (PatientIdentityRemoved); else empty"""


@dataclass(frozen=True)
class Frame:
    """One slice: its file and place in it, its series, its geometry, and how stored values are scaled."""

    path: Path
    number: int
    """In its file, from 0 on"""
    is_alone: bool
    """Whether the file is of the kind that holds one frame"""
    study: str
    """StudyInstanceUID with a digest of PatientID: some programs give several patients one study"""
    series: str
    series_number: int | None
    sop_class: str
    instance: str
    """SOPInstanceUID"""
    frame_of_reference: str
    shape: tuple[int, int]
    """Rows, columns"""
    position: Vector | None
    """Of the centre of the first voxel, (x, y, z)"""
    cosines: Vector | None
    """Directions in which columns grow, then rows, (x, y, z) each"""
    spacing: Vector | None
    """mm between rows, and between columns"""
    thickness: float | None
    """mm between slices by the tags; positions decide where there are several slices"""
    slope: float
    intercept: float
    inverted: bool
    """MONOCHROME1: the smallest value is white"""
    is_grey: bool
    transfer_syntax: str
    splitting: tuple[tuple[str, str], ...]
    """Tags that may tell apart frames at one position, and their values"""
    about: Acquisition

    @property
    def is_mr(self) -> bool:
        return self.sop_class in _MR_CLASSES

    @property
    def label(self) -> str:
        """The series in messages: its number and description."""
        number = "a series" if self.series_number is None else f"series {self.series_number}"
        return f'{number} "{self.about.description}"' if self.about.description else number


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM by its content, or by its name where it is of an old program."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz", *PICTURE_SUFFIXES)):
        return False
    return name.endswith(SUFFIXES) or read_head(path)[128:132] == b"DICM"


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn the errors of pydicom and the disk into one that names the file.

    Its warnings are dropped, and so are its log lines: they quote values of tags, of patients too.
    """
    for library in ("pydicom", "highdicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        with catch_warnings(action="ignore"):
            yield
    except OSError as error:
        raise DicomError(path, f"cannot be read: {error.strerror or error}; check file and disk") from error
    except MemoryError as error:
        raise DicomError(path, "does not fit into memory; free some") from error
    except Exception as error:  # pydicom raises what its decoders raise, of any type
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DicomError(
            path, f"truncated or corrupt DICOM file ({reason}); export or copy it again"
        ) from error


def read_frames(path: Path) -> list[Frame]:
    """Return the frames of a file; of one that is no MR image only the first, and of a DICOMDIR none.

    Raises:
        DicomError: the file is no DICOM file, or its header is damaged.
    """
    from pydicom import dcmread

    with translate_errors(path):
        is_old = path.name.lower().endswith(SUFFIXES)
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=_tags(), force=is_old)
        meta = getattr(dataset, "file_meta", {})
        if str(meta.get("MediaStorageSOPClassUID", "")) == DIRECTORY:
            return []
        if not dataset.get("SOPClassUID") or not dataset.get("SeriesInstanceUID"):
            raise ValueError("it has no SOPClassUID or no SeriesInstanceUID")
        is_alone = "NumberOfFrames" not in dataset
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if str(dataset.SOPClassUID) not in _MR_CLASSES:
            return [_frame(path, dataset, 0, is_alone, (0, 0), syntax)]
        count = int(dataset.get("NumberOfFrames") or 1)
        shape = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
        if not all(shape):
            raise ValueError("it ends before its pixels")
        if count < 1 or shape[0] * shape[1] * count > MAX_VOXELS:
            raise ValueError(f"it promises {format_sizes((count, *shape))} pixels")
        if len(dataset.get("PerFrameFunctionalGroupsSequence") or range(count)) != count:
            raise ValueError("its functional groups are not as many as its frames")
        return [_frame(path, dataset, number, is_alone, shape, syntax) for number in range(count)]


def directory_files(path: Path) -> list[Path]:
    """Return the image files that a DICOMDIR names, in its order.

    Raises:
        DicomError: it is damaged.
    """
    from pydicom import dcmread

    with translate_errors(path):
        records = dcmread(path).get("DirectoryRecordSequence") or ()
        names = [record.get("ReferencedFileID") for record in records]
        parts = [[name] if isinstance(name, str) else [*name] for name in names if name]
        inside = [path.parent.joinpath(*map(str, each)) for each in parts]
        return [file for file in inside if file.resolve().is_relative_to(path.parent.resolve())]


@cache
def _tags() -> list[Any]:
    """Return the tags that are read."""
    from pydicom.datadict import tag_for_keyword

    splitting = (keyword for keywords in _SPLITTING for keyword in keywords)
    groups = {*_GROUPS.values(), "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"}
    return [tag_for_keyword(keyword) for keyword in {*_PLAIN, *_GROUPS, *groups, *splitting}]


def _frame(
    path: Path, dataset: Any, number: int, is_alone: bool, shape: tuple[int, int], syntax: str
) -> Frame:
    get = _getter(dataset, number)
    values = ((names[0], _text(next(filter(None, map(get, names)), None))) for names in _SPLITTING)
    between = _number(get("SpacingBetweenSlices"))
    slope, intercept = _number(get("RescaleSlope")), _number(get("RescaleIntercept"))
    series_number = _number(get("SeriesNumber"))
    return Frame(
        path=path,
        number=number,
        is_alone=is_alone,
        study=f"{_text(get('StudyInstanceUID'))} {sha256(_text(get('PatientID')).encode()).hexdigest()}",
        series=_text(get("SeriesInstanceUID")),
        series_number=None if series_number is None else int(series_number),
        sop_class=_text(get("SOPClassUID")),
        instance=_text(get("SOPInstanceUID")),
        frame_of_reference=_text(get("FrameOfReferenceUID")),
        shape=shape,
        position=_vector(get("ImagePositionPatient"), 3),
        cosines=_vector(get("ImageOrientationPatient"), 6),
        spacing=_vector(get("PixelSpacing"), 2),
        thickness=abs(between) if between else _number(get("SliceThickness")),
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        inverted=get("PhotometricInterpretation") == "MONOCHROME1",
        is_grey=int(get("SamplesPerPixel") or 1) == 1 and get("PhotometricInterpretation") != "PALETTE COLOR",
        transfer_syntax=syntax,
        splitting=tuple(values),
        about=_acquisition(get),
    )


def _getter(dataset: Any, number: int) -> Callable[[str], Any]:
    """Return what looks up a tag: in the functional groups of a frame, then in the file."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    groups = [*own[number : number + 1], *(dataset.get("SharedFunctionalGroupsSequence") or ())[:1]]

    def get(keyword: str) -> Any:
        for group in groups:
            items = group.get(_GROUPS.get(keyword, ""), None)
            if items and (value := items[0].get(keyword)) is not None:
                return value
        return dataset.get(keyword)

    return get


def _acquisition(get: Callable[[str], Any]) -> Acquisition:
    sequences = [*_texts(get("ScanningSequence"))]
    if "GRADIENT" in _text(get("EchoPulseSequence")).upper():
        sequences.append("GR")
    agent = _text(get("ContrastBolusAgent")).lower()
    return Acquisition(
        description=" ".join(_text(get("SeriesDescription")).split()),
        protocol=" ".join(_text(get("ProtocolName")).split()),
        image_type=tuple(dict.fromkeys((*_texts(get("ImageType")), *_texts(get("FrameType"))))),
        contrast=_text(get("AcquisitionContrast")).upper(),
        agent=agent not in _NO_AGENT or bool(get("ContrastBolusAgentSequence")),
        echo_ms=_number(get("EffectiveEchoTime")) or _number(get("EchoTime")),
        repetition_ms=_number(get("RepetitionTime")),
        inversion_ms=_number(get("InversionTimes")) or _number(get("InversionTime")),
        sequences=tuple(sequences),
        patient=_text(get("PatientID")) if _text(get("PatientIdentityRemoved")).upper() == "YES" else "",
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _texts(value: Any) -> list[str]:
    values = [] if value is None else [value] if isinstance(value, str) else [*value]
    return [str(each).strip().upper() for each in values]


def _vector(value: Any, length: int) -> Vector | None:
    """Return so many finite numbers, or None."""
    numbers = () if value is None or isinstance(value, str) else tuple(float(each) for each in value)
    finite = all(abs(number) < 1e9 for number in numbers)  # false for NaN, too
    return numbers if len(numbers) == length and finite else None


def _number(value: Any) -> float | None:
    """Return a number, or the first of several; None where there is none."""
    if value is not None and not isinstance(value, str | int | float):
        value = next(iter(value), None)
    return None if value is None or value == "" else float(value)
