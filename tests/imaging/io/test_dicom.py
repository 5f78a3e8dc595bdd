"""Series as files write them: order, gaps, repeats, scales, and damage."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless
from tests.fixtures.dicom import Series

from slicewise.imaging.io.dicom import explain_syntax, read_stack
from slicewise.imaging.io.dicom_frames import DicomError, read_frames
from slicewise.imaging.io.dicom_stack import Stack, build_stacks


def voxels(*shape: int, kind: type = np.int16) -> Any:
    return np.random.default_rng(0).integers(0, 250, shape or (6, 5, 4)).astype(kind)


def stacks(files: list[Path]) -> tuple[list[Stack], list[str]]:
    found, faults = build_stacks([frame for path in files for frame in read_frames(path)])
    return found, [fault.message for fault in faults]


def stack(files: list[Path]) -> Stack:
    (found,), faults = stacks(files)
    assert faults == []
    return found


def fault(files: list[Path]) -> str:
    found, (message,) = stacks(files)
    assert found == []
    return message


def test_slices_are_sorted_by_position_whatever_their_names_and_numbers_are(tmp_path: Path) -> None:
    series = Series(voxels())
    files = series.write(tmp_path, order=[4, 0, 5, 2, 1, 3])
    image = read_stack(stack(files[::-1]))
    np.testing.assert_array_equal(image.array, series.voxels)
    assert image.array.dtype == np.int16
    assert image.spacing == (3, 1, 1)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16])
def test_stored_types_are_kept_and_signed_values_stay_negative(tmp_path: Path, kind: type) -> None:
    series = Series(voxels(3, 5, 4, kind=kind))
    series.voxels[0, 0, 0] = np.iinfo(kind).min
    image = read_stack(stack(series.write(tmp_path)))
    assert image.array.dtype == kind
    np.testing.assert_array_equal(image.array, series.voxels)


def test_values_are_rescaled_each_frame_with_its_own_slope(tmp_path: Path) -> None:
    series = Series(voxels(), slope=0.5, intercept=-3)
    files = series.write(tmp_path)
    dataset = pydicom.dcmread(files[2])
    dataset.RescaleSlope = 2
    dataset.save_as(files[2])
    expected = series.voxels * np.float32(0.5) - 3
    expected[2] = series.voxels[2] * 2.0 - 3
    np.testing.assert_array_equal(read_stack(stack(files)).array, expected)
    enhanced = Series(voxels(), slope=0.5, intercept=-3).write_enhanced(tmp_path / "many.dcm")
    np.testing.assert_array_equal(read_stack(stack([enhanced])).array, series.voxels * np.float32(0.5) - 3)


def test_where_the_smallest_value_is_white_values_are_inverted(tmp_path: Path) -> None:
    series = Series(voxels(), tags={"PhotometricInterpretation": "MONOCHROME1"})
    image = read_stack(stack(series.write(tmp_path)))
    np.testing.assert_array_equal(image.array, series.voxels.max() - series.voxels)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_frames_are_decoded(tmp_path: Path, syntax: Any) -> None:
    series = Series(voxels(3, 16, 16, kind=np.uint16))
    files = series.write(tmp_path)
    for path in files:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_stack(stack(files)).array, series.voxels)


@pytest.mark.parametrize(
    ("uid", "words"),
    [
        (
            "1.2.840.10008.1.2.4.201",
            "High-Throughput JPEG 2000 .* `pip install pylibjpeg pylibjpeg-openjpeg`",
        ),
        ("1.2.840.10008.1.2.4.70", "JPEG Lossless.* `pip install python-gdcm`"),
        ("1.2.840.10008.1.2.4.100", "MPEG2 .* decompress the series"),
    ],
)
def test_a_compression_without_decoder_is_named_with_its_remedy(
    tmp_path: Path, uid: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pydicom.pixels.decoders.base import Decoder

    monkeypatch.setattr(Decoder, "is_available", False)
    assert explain_syntax("1.2.840.10008.1.2.1") is None
    (path,) = Series(voxels(1, 5, 4)).write(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = uid
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 8])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(DicomError, match=words):
        read_stack(stack([path]))


def test_missing_slices_leave_a_gap_that_is_named_and_the_others_stay_in_place(tmp_path: Path) -> None:
    series = Series(voxels())
    found = stack(series.write(tmp_path, order=[0, 1, 2, 4, 5]))
    image = read_stack(found)
    np.testing.assert_array_equal(image.array[[0, 1, 2, 4, 5]], series.voxels[[0, 1, 2, 4, 5]])
    assert not image.array[3].any()
    assert "1 of 6 slices are missing (number 4 from the first position on)" in image.remarks[0]


def test_uneven_distances_are_refused_and_measured(tmp_path: Path) -> None:
    files = Series(voxels()).write(tmp_path)
    dataset = pydicom.dcmread(files[2])
    dataset.ImagePositionPatient[2] += 1
    dataset.save_as(files[2])
    assert "2.00 to 4.00 mm apart, which is no even grid" in fault(files)
    assert "dcm2niix" in fault(files)


def test_half_of_a_series_is_no_gap_but_a_fault(tmp_path: Path) -> None:
    assert "no even grid" in fault(Series(voxels(9, 5, 4)).write(tmp_path, order=[0, 1, 2, 3, 8]))


def test_slices_at_one_position_are_told_apart_by_their_tags_or_refused(tmp_path: Path) -> None:
    first = Series(voxels(), tags={"EchoTime": 20})
    second = Series(voxels() + 1, series=first.series, tags={"EchoTime": 80})
    files = first.write(tmp_path / "a") + second.write(tmp_path / "b")
    found, faults = stacks(files)
    assert faults == []
    for each, series in zip(found, (first, second), strict=True):
        np.testing.assert_array_equal(read_stack(each).array, series.voxels)
    same = Series(voxels() + 1, series=first.series, tags={"EchoTime": 20})
    assert "6 of 12 slices lie where another one lies" in fault(files[:6] + same.write(tmp_path / "c"))


def test_several_orientations_and_sizes_in_a_series_are_several_stacks(tmp_path: Path) -> None:
    axial = Series(voxels())
    turned = Series(
        voxels(4, 5, 4), series=axial.series, along_row=np.array([0, 1.0, 0]),
        along_column=np.array([0, 0, -1.0]), step=np.array([2.0, 0, 0]),
    )  # fmt: skip
    wide = Series(voxels(3, 5, 7), series=axial.series)
    files = axial.write(tmp_path / "a") + turned.write(tmp_path / "b") + wide.write(tmp_path / "c")
    found, faults = stacks(files)
    assert faults == []
    assert [each.orientation.shape for each in found] == [(4, 5, 6), (4, 5, 4), (7, 5, 3)]


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_frames_without_a_place_in_the_patient_are_refused(tmp_path: Path, tag: str) -> None:
    message = fault(Series(voxels(), tags={tag: None}).write(tmp_path))
    assert f"6 frame(s) without {tag}" in message
    assert "save the slices as pictures" in message


def test_a_sheared_series_is_refused(tmp_path: Path) -> None:
    series = Series(voxels(), step=np.array([0, 0.6, 3.0]))
    assert "sheared by 11.3 degrees" in fault(series.write(tmp_path))


def test_one_slice_has_the_thickness_of_its_tags(tmp_path: Path) -> None:
    files = Series(voxels(1, 5, 4)).write(tmp_path)
    assert read_stack(stack(files)).spacing == (3, 1, 1)
    files = Series(voxels(1, 5, 4), tags={"SliceThickness": None}).write(tmp_path)
    assert "1 mm is assumed" in read_stack(stack(files)).remarks[0]


@pytest.mark.parametrize("length", [100, 140, 400, 700, -60])
def test_a_truncated_file_is_named(tmp_path: Path, length: int) -> None:
    files = Series(voxels()).write(tmp_path)
    files[3].write_bytes(files[3].read_bytes()[:length])
    with pytest.raises(DicomError, match=r"IM0004: .*(truncated or corrupt|without)"):
        read_stack(stack(files))


def test_a_damaged_file_header_is_named(tmp_path: Path) -> None:
    (path,) = Series(voxels(1, 5, 4)).write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\2\0\0\0UL", b"\2\0\0\0\0L"))
    with pytest.raises(DicomError, match="IM0001: truncated or corrupt DICOM file"):
        read_frames(path)
    assert "no transfer syntax of the standard" in str(explain_syntax("\0.2.840.10008.1.2.1"))


def test_more_functional_groups_than_frames_and_absurd_sizes_are_refused(tmp_path: Path) -> None:
    path = Series(voxels()).write_enhanced(tmp_path / "many.dcm")
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 5
    dataset.save_as(path)
    with pytest.raises(DicomError, match="functional groups"):
        read_frames(path)
    dataset.NumberOfFrames = 10**7
    dataset.save_as(path)
    with pytest.raises(DicomError, match="it promises 10000000 x 5 x 4 pixels"):
        read_frames(path)
