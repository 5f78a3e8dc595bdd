"""DICOM-SEG of a mask (PS3.3 A.51), written by highdicom: a segment per class on the frames of its source.

Each frame of the segmentation names the image that it lies on. Patient, study and frame of reference are
those of the source; codes are of SNOMED CT and the NCI Thesaurus, as in context groups 7168 and 7169.
"""

from collections import defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import slicewise
from slicewise.core.errors import DataError
from slicewise.core.files import atomic_write
from slicewise.data.dicom_cases import DicomCase
from slicewise.domain.classes import Classes
from slicewise.imaging.io.dicom_frames import Frame, translate_errors
from slicewise.imaging.io.dicom_stack import Stack
from slicewise.inference.prediction import Bools, Prediction

Code = tuple[str, str, str]
"""Value, coding scheme, meaning"""
_ABNORMAL: Final = ("49755003", "SCT", "Morphologically Abnormal Structure")
_TISSUE: Final = ("85756007", "SCT", "Tissue")
_ARTIFICIAL_INTELLIGENCE: Final = ("123110", "DCM", "Artificial Intelligence")
_TYPES: Final[dict[str, Code]] = {
    "nonenhancing": ("C81175", "NCIt", "Non-Enhancing Lesion"),
    "enhancing": ("C113842", "NCIt", "Enhancing Lesion"),
    "edema": ("79654002", "SCT", "Edema"),
    "oedema": ("79654002", "SCT", "Edema"),
    "necro": ("6574001", "SCT", "Necrosis"),
    "tumour": ("108369006", "SCT", "Neoplasm"),
    "tumor": ("108369006", "SCT", "Neoplasm"),
    "lesion": ("52988006", "SCT", "Lesion"),
}
"""Word in the name of a class -> the code of its segment; the first that fits"""
_OWN_SCHEME: Final = "99SLICEWISE"
"""Of classes without a code of a public scheme; 99 marks a private one"""
_NOT_KNOWN: Final = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Tags that every DICOM object has, empty where nothing is known (type 2)"""
_SERIES_NUMBER: Final = 1000
"""Added to the number of the source series"""


def save_dicom_seg(prediction: Prediction, folder: Path) -> str | None:
    """Write `<case>_seg.dcm` into `folder`, atomically; return its name, None where there is no mask.

    Raises:
        DataError: as `dicom_seg`.
    """
    if prediction.masks is None or not isinstance(prediction.files, DicomCase):
        return None
    name, content = f"{prediction.case}_seg.dcm", dicom_seg(prediction)
    with atomic_write(folder / name) as stream:
        stream.write(content)
    return name


def dicom_seg(prediction: Prediction) -> bytes:
    """Return the masks of a prediction as a DICOM-SEG file, see `encode_dicom_seg`.

    Raises:
        DataError: likewise, or the case was not read from DICOM, or the model has no masks.
    """
    case, masks = prediction.files, prediction.masks
    if not isinstance(case, DicomCase) or masks is None:
        raise DataError(f"{prediction.case}: a DICOM-SEG needs a case read from DICOM and a model with masks")
    return encode_dicom_seg(case, masks, prediction.classes, prediction.fingerprint)


def encode_dicom_seg(case: DicomCase, masks: Bools, classes: Classes, fingerprint: str) -> bytes:
    """Return masks [K, slice, row, col] as a DICOM-SEG file that refers to the series of a case.

    The tags of the source files are read again. Of an empty mask every frame is written, all zero; else only
    frames with a mask are. `fingerprint` is that of the model.

    Raises:
        DataError: the slices lie in several multi-frame files, or the source files are damaged.
    """
    stack = case.stacks[0]
    if any(not frame.is_alone for frame in stack.frames) and len({f.path for f in stack.frames}) > 1:
        raise DataError(
            f"{case.key.case}: no DICOM-SEG is written, because the slices of {stack.label} lie in several "
            "multi-frame files; use the NIfTI mask"
        )
    with translate_errors(stack.frames[0].path):
        return _encode(case, masks, _segments(classes, fingerprint), fingerprint)


def _encode(case: DicomCase, masks: Bools, segments: Sequence[Any], fingerprint: str) -> bytes:
    import highdicom
    from highdicom.content import PlanePositionSequence

    stack, *others = case.stacks
    sources = _sources(stack.frames)
    positions = [PlanePositionSequence("PATIENT", each.position) for each in stack.frames]
    number = stack.frames[0].series_number or 0
    segmentation = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=_planes(masks, stack),
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=max(number, 0) + _SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="SliceWise",
        manufacturer_model_name="slicewise predict",
        software_versions=slicewise.__version__,
        device_serial_number=fingerprint[:16] or "unknown",
        content_label="SLICEWISE",
        content_description="Research use only; not for diagnosis",
        series_description="SliceWise segmentation, research use only",
        plane_positions=None if stack.frames[0].is_alone else positions,
    )
    segmentation.ReferencedSeriesSequence.extend(_references(others))
    stream = BytesIO()
    segmentation.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _planes(masks: Bools, stack: Stack) -> NDArray[np.uint8]:
    """Return masks [K, slice, row, col] as [frame, row, col, K] of the rows and columns in the files."""
    stored = [stack.orientation.to_file_order(mask).T[list(stack.places)] for mask in masks]
    return np.stack(stored, axis=-1).astype(np.uint8)


def _sources(frames: Sequence[Frame]) -> list[Any]:
    """Return the tags of the source images, each frame its own or one of many, as highdicom needs them."""
    from pydicom import dcmread
    from pydicom.uid import generate_uid

    sources = []
    for path in dict.fromkeys(frame.path for frame in frames):
        source = dcmread(path, stop_before_pixels=True, force=True)
        source.update(_dataset(**{name: None for name in _NOT_KNOWN if name not in source}))
        sources.append(source)
    reference = frames[0].frame_of_reference or generate_uid()
    for source in sources:
        source.update(_dataset(FrameOfReferenceUID=reference))
        _share_plane(source, frames[0])
    return sources


def _share_plane(source: Any, frame: Frame) -> None:
    """Set one orientation and pixel size for all frames: files round them, or repeat them per frame."""
    orientation = _dataset(ImageOrientationPatient=list(frame.cosines or ()))
    if frame.is_alone:
        source.update(orientation)
        return
    measures = _dataset(PixelSpacing=list(frame.spacing or ()), SliceThickness=frame.thickness)
    shared = [*(source.get("SharedFunctionalGroupsSequence") or ()), _dataset()][0]
    shared.update(_dataset(PlaneOrientationSequence=[orientation]))
    if "PixelMeasuresSequence" not in shared:
        shared.update(_dataset(PixelMeasuresSequence=[measures]))
    source.update(_dataset(SharedFunctionalGroupsSequence=[shared]))


def _dataset(**tags: Any) -> Any:
    """Return a data set of tags by their keywords."""
    from pydicom.dataset import Dataset

    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def _references(stacks: Sequence[Stack]) -> list[Any]:
    """Return the references to the series of stacks, with all of their images."""
    images: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
    for frame in (frame for stack in stacks for frame in stack.frames):
        images[frame.series][frame.sop_class, frame.instance] = None
    return [
        _dataset(
            SeriesInstanceUID=series,
            ReferencedInstanceSequence=[
                _dataset(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=instance)
                for sop_class, instance in instances
            ],
        )
        for series, instances in images.items()
    ]


def _segments(classes: Classes, fingerprint: str) -> list[Any]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.coding import Code as CodedEntry

    algorithm = AlgorithmIdentificationSequence(
        name="SliceWise",
        family=CodedEntry(*_ARTIFICIAL_INTELLIGENCE),
        version=slicewise.__version__,
        source="SliceWise",
        parameters={"model": fingerprint},
    )
    segments = []
    for number, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True), 1):
        category, kind = _codes(name)
        segments.append(
            SegmentDescription(
                segment_number=number,
                segment_label=name.replace("_", " "),
                segmented_property_category=CodedEntry(*category),
                segmented_property_type=CodedEntry(*kind),
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
                display_color=CIELabColor.from_rgb(*colour),
            )
        )
    return segments


def _codes(name: str) -> tuple[Code, Code]:
    """Return the category and type of the segment of a class."""
    plain = name.lower().replace("_", "")
    known = next((code for word, code in _TYPES.items() if word in plain), None)
    return (_ABNORMAL, known) if known else (_TISSUE, (name[:16], _OWN_SCHEME, name.replace("_", " ")))
