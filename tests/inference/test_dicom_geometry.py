"""Masks of DICOM series in random geometries come back on the very voxels, by readers other than ours."""

from io import BytesIO
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 — its own short name
from numpy.typing import NDArray
from tests.fixtures.dicom import Series

from slicewise.data.dicom_cases import DicomCase, ModelInputs, find_dicom_cases
from slicewise.domain.classes import TUMOUR
from slicewise.domain.labels import MODALITIES
from slicewise.imaging.io.nifti import nifti_bytes
from slicewise.inference.dicom_seg import encode_dicom_seg

NUM_GEOMETRIES = 200
INPUTS = ModelInputs(MODALITIES, None, "flair")
FLIP = np.diag([-1.0, -1, 1, 1])  # LPS to RAS


class Geometry:
    """One of the random geometries; a voxel belongs to the mask if its value is odd."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.is_enhanced, self.is_sheared, self.has_gap = seed % 2 == 1, seed % 4 == 2, seed % 5 == 3
        shape = rng.integers((6, 3, 3), (9, 7, 8))
        kind = (np.int16, np.uint16, np.uint8)[seed % 3]
        axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        if seed % 3 == 0:  # the axes of the patient, in any order and direction
            axes = np.eye(3)[rng.permutation(3)] * rng.choice((-1, 1), 3)[:, None]
        step = axes[2] * rng.uniform(0.8, 7)  # along the normal or against it
        if self.is_sheared:
            step = step + axes[0] * np.linalg.norm(step) * np.tan(np.radians(rng.uniform(0.5, 4)))
        self.series = Series(
            rng.integers(0, 200, shape).astype(kind),
            along_row=axes[0],
            along_column=axes[1],
            spacing=(round(rng.uniform(0.4, 2), 3), round(rng.uniform(0.4, 2), 3)),
            step=step,
            origin=rng.uniform(-100, 100, 3),
        )
        kept = [index for index in range(shape[0]) if not (self.has_gap and index == 2)]
        self.order = rng.permutation(kept).tolist()

    def write(self, folder: Path) -> list[Path]:
        if self.is_enhanced:
            return [self.series.write_enhanced(folder / "scan.dcm", order=self.order)]
        return self.series.write(folder, order=self.order)

    def mask_voxels(self) -> set[tuple[int, ...]]:
        """[col, row, slice] of the voxels of the mask, as they were written."""
        found = np.argwhere(self.series.voxels % 2 == 1)
        return {tuple(place[::-1].tolist()) for place in found if place[0] in self.order}

    def voxels_at(self, lps: NDArray[np.float64]) -> set[tuple[int, ...]]:
        """[col, row, slice] of points in the patient, each of which is the centre of a voxel."""
        indices = (np.linalg.inv(self.series.affine()) @ np.c_[lps, np.ones(len(lps))].T).T[:, :3]
        assert np.abs(indices - np.rint(indices)).max() < 0.01
        return {tuple(each) for each in np.rint(indices).astype(int).tolist()}


def read_case(folder: Path, files: list[Path]) -> DicomCase:
    cases, problems = find_dicom_cases(dict.fromkeys(files, folder), INPUTS)
    assert problems == []
    (case,) = cases
    return case


def points(places: NDArray[np.int64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((affine @ np.c_[places, np.ones(len(places))].T).T[:, :3])


def points_of_segmentation(content: bytes) -> NDArray[np.float64]:
    """LPS of the voxels of the only segment, by the tags of PS3.3 C.7.6.2.1.1 and nothing else."""
    dataset = pydicom.dcmread(BytesIO(content))
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = []
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, cols = np.nonzero(frame)
        found.append(
            origin + np.outer(cols * spacing[1], cosines[:3]) + np.outer(rows * spacing[0], cosines[3:])
        )
    return np.concatenate(found)


def test_masks_come_back_on_the_very_voxels(tmp_path: Path) -> None:
    num_gaps = 0
    for seed in range(NUM_GEOMETRIES):
        geometry = Geometry(seed)
        folder = tmp_path / str(seed)
        case = read_case(folder, geometry.write(folder))
        volume = case.read()
        num_gaps += any("slices are missing" in remark for remark in volume.remarks)
        assert volume.orientation is not None
        mask = volume.images[0] % 2 == 1
        (folder / "mask.nii").write_bytes(
            nifti_bytes(mask.astype(np.uint8), volume.orientation, compressed=False)
        )
        by_nibabel = nib.load(folder / "mask.nii")
        places = np.argwhere(np.asarray(by_nibabel.dataobj) == 1)
        expected = geometry.mask_voxels()
        assert geometry.voxels_at(points(places, FLIP @ by_nibabel.affine)) == expected, seed
        content = encode_dicom_seg(case, mask[None], TUMOUR, "0" * 64)
        assert geometry.voxels_at(points_of_segmentation(content)) == expected, seed
        if not geometry.is_sheared:
            by_itk = sitk.ReadImage(folder / "mask.nii")
            indices = np.argwhere(sitk.GetArrayFromImage(by_itk) == 1)[:, ::-1].tolist()
            lps = np.array([by_itk.TransformIndexToPhysicalPoint(index) for index in indices])
            assert geometry.voxels_at(lps) == expected, seed
    assert num_gaps == sum(Geometry(seed).has_gap for seed in range(NUM_GEOMETRIES))


@pytest.mark.parametrize("seed", [0, 1, 4, 7, 12, 15])
def test_highdicom_places_the_mask_on_the_volume_of_the_source(tmp_path: Path, seed: int) -> None:
    geometry = Geometry(seed)
    case = read_case(tmp_path, geometry.write(tmp_path))
    mask = case.read().images[0] % 2 == 1
    content = encode_dicom_seg(case, mask[None], TUMOUR, "0" * 64)
    volume = highdicom.seg.segread(BytesIO(content)).get_volume(combine_segments=True)
    places = np.argwhere(volume.array)
    assert geometry.voxels_at(points(places, volume.affine)) == geometry.mask_voxels()


@pytest.mark.parametrize("seed", [0, 4, 6, 10, 12, 16])
def test_simpleitk_reads_the_same_values_at_the_same_places(tmp_path: Path, seed: int) -> None:
    geometry = Geometry(seed)
    geometry.is_enhanced = False
    geometry.series.step = np.cross(geometry.series.along_row, geometry.series.along_column) * 3
    files = geometry.write(tmp_path)
    volume = read_case(tmp_path, files).read()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    assert volume.orientation is not None
    stored = volume.orientation.to_file_order(volume.images[0])
    for place, value in np.ndenumerate(stored):
        lps = points(np.array([place]), FLIP @ volume.orientation.matrix())[0]
        index = image.TransformPhysicalPointToIndex(lps.tolist())
        assert image[index] == value
