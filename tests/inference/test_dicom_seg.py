"""What a DICOM-SEG file says of its segments, its source and its maker."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from tests.fixtures.dicom import Series

from slicewise.core.errors import DataError
from slicewise.data.dicom_cases import DicomCase, ModelInputs, find_dicom_cases
from slicewise.domain.classes import TUMOUR, Classes
from slicewise.domain.labels import MODALITIES
from slicewise.inference.dicom_seg import encode_dicom_seg

REGIONS = Classes(("whole_tumour", "enhancing_tumour", "Necrosis", "edema", "ventricle"))


def voxels() -> Any:
    return np.random.default_rng(0).integers(1, 250, (6, 5, 4)).astype(np.int16)


def case(files: list[Path], folder: Path) -> DicomCase:
    ((found,), _) = find_dicom_cases(dict.fromkeys(files, folder), ModelInputs(MODALITIES, None, "flair"))
    return found


def encoded(found: DicomCase, masks: Any, classes: Classes = TUMOUR) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(encode_dicom_seg(found, masks, classes, "ab" * 32)))


def mask(*places: tuple[int, int, int]) -> Any:
    made = np.zeros((6, 5, 4), bool)
    for place in places:
        made[place] = True
    return made


def test_segments_have_codes_labels_and_an_algorithm(tmp_path: Path) -> None:
    found = case(Series(voxels(), description="FLAIR").write(tmp_path), tmp_path)
    masks = np.stack([mask((number % 6, 1, 2), (2, 2, 2)) for number in range(5)])
    dataset = encoded(found, masks, REGIONS)
    codes = [
        (each.SegmentLabel, each.SegmentedPropertyTypeCodeSequence[0].CodeValue)
        for each in dataset.SegmentSequence
    ]
    assert codes == [
        ("whole tumour", "108369006"), ("enhancing tumour", "C113842"), ("Necrosis", "6574001"),
        ("edema", "79654002"), ("ventricle", "ventricle"),
    ]  # fmt: skip
    first = dataset.SegmentSequence[0]
    assert first.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert (first.SegmentAlgorithmType, first.SegmentAlgorithmName) == ("AUTOMATIC", "SliceWise")
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmParameters == f"model={'ab' * 32}"
    assert dataset.SegmentsOverlap == "YES"
    assert (dataset.Manufacturer, dataset.Modality) == ("SliceWise", "SEG")
    numbers = [
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for group in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(numbers) == [1, 1, 2, 2, 3, 4, 4, 5, 5], "a frame for each slice with a mask"


def test_each_frame_names_the_image_it_lies_on_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    series = Series(voxels(), description="FLAIR")
    files = series.write(tmp_path, order=[4, 0, 5, 2, 1, 3])
    dataset = encoded(case(files, tmp_path), mask((2, 1, 1), (5, 1, 1))[None])
    instances = {pydicom.dcmread(path).SOPInstanceUID: path.name for path in files}
    shown = [
        instances[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        for group in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(shown) == ["IM0003", "IM0004"]
    (referenced,) = dataset.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == series.series
    assert dataset.FrameOfReferenceUID == series.frame_of_reference
    assert (dataset.PatientID, dataset.StudyInstanceUID) == (series.patient, series.study)


def test_frames_of_one_file_are_named_by_number(tmp_path: Path) -> None:
    path = Series(voxels(), description="FLAIR").write_enhanced(tmp_path / "x", order=[4, 0, 5, 2, 1, 3])
    dataset = encoded(case([path], tmp_path), mask((2, 1, 1), (5, 1, 1))[None])
    shown = [
        int(group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber)
        for group in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(shown) == [3, 4]


def test_an_empty_mask_is_a_valid_file_of_empty_frames(tmp_path: Path) -> None:
    found = case(Series(voxels(), description="FLAIR").write(tmp_path), tmp_path)
    dataset = encoded(found, mask()[None])
    assert (dataset.NumberOfFrames, dataset.pixel_array.any()) == (6, False)


def test_the_least_tags_of_a_source_are_enough(tmp_path: Path) -> None:
    lost = ("PatientID", "PatientName", "PatientBirthDate", "StudyDate", "StudyTime", "FrameOfReferenceUID")
    series = Series(voxels(), description="FLAIR", tags=dict.fromkeys(lost))
    dataset = encoded(case(series.write(tmp_path), tmp_path), mask((1, 1, 1))[None])
    assert dataset.PatientID in ("", None)
    assert dataset.FrameOfReferenceUID


def test_slices_in_several_multi_frame_files_are_refused(tmp_path: Path) -> None:
    series = Series(voxels(), description="FLAIR")
    files = [
        series.write_enhanced(tmp_path / "a", order=[0, 1, 2]),
        series.write_enhanced(tmp_path / "b", order=[3, 4, 5]),
    ]
    found = case(files, tmp_path)
    np.testing.assert_array_equal(found.read().images[3], series.voxels)
    with pytest.raises(DataError, match="several multi-frame files; use the NIfTI mask"):
        encode_dicom_seg(found, mask((1, 1, 1))[None], TUMOUR, "")
