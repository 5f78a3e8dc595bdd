"""One rule for the places of voxels, seen through the check and the reader at once."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations
from numpy.typing import NDArray
from tests.imaging.ellipsoid import KEY, LPS, images, tumour, write_nifti

from slicewise.core.errors import VolumeError
from slicewise.data.cases import CaseFiles, check_case
from slicewise.domain.labels import Modality
from slicewise.imaging.volume import Volume, read_nifti_case

STORED = ("LPS", "RAS", "LAS", "SAR", "PIL", "ASL", "IRP")


def turn(degrees: float, axis: int = 2) -> NDArray[Any]:
    """Return a rotation about an axis of the patient."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = (other for other in range(3) if other != axis)
    matrix: NDArray[Any] = np.eye(4)
    matrix[[first, first, second, second], [first, second, first, second]] = cos, -sin, sin, cos
    return matrix


def stored_as(path: Path, axes: str) -> Path:
    """Write the same voxels at the same places along other axes."""
    image = nib.load(path)
    own, wanted = nib.io_orientation(image.affine), orientations.axcodes2ornt(tuple(axes))
    path.write_bytes(image.as_reoriented(orientations.ornt_transform(own, wanted)).to_bytes())
    return path


def case_of(folder: Path, affine: NDArray[Any], view: NDArray[Any] | None = None) -> CaseFiles:
    """Return a FLAIR on the grid of the toy, and a T1 whose affine is another."""
    flair = write_nifti(folder / "flair.nii", images()[3])
    t1 = write_nifti(folder / "t1.nii", images()[0] if view is None else view, affine)
    modalities: tuple[Modality, ...] = ("flair", "t1")
    return CaseFiles(KEY, "brats", modalities, (flair, t1), (), None, "p1")


def read(case: CaseFiles) -> Volume:
    return read_nifti_case(KEY, case.modalities, case.images, case.masks[0] if case.masks else None)


@pytest.mark.parametrize("affine", [LPS, turn(20) @ LPS, turn(45) @ LPS, turn(45, 0) @ turn(45) @ LPS])
@pytest.mark.parametrize("axes", STORED)
def test_the_order_in_which_a_file_stores_its_axes_does_not_matter(
    tmp_path: Path, axes: str, affine: NDArray[Any]
) -> None:
    flair = write_nifti(tmp_path / "flair.nii", images()[3], affine)
    paths = [stored_as(write_nifti(tmp_path / "t1.nii", images()[3], affine), axes)]
    paths.append(stored_as(write_nifti(tmp_path / "seg.nii", tumour(), affine), axes[::-1]))
    case = CaseFiles(KEY, "brats", ("flair", "t1"), (flair, paths[0]), (paths[1],), None, "p1")
    assert check_case(case) == []
    volume = read(case)
    np.testing.assert_array_equal(volume.images[0], volume.images[3])
    alone = read_nifti_case(KEY, ("flair",), (flair,), write_nifti(tmp_path / "own.nii", tumour(), affine))
    np.testing.assert_array_equal(volume.mask, alone.mask)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 6), (1, 1, 1.5)])
def test_half_a_voxel_along_each_axis_is_the_limit(tmp_path: Path, spacing: tuple[float, ...]) -> None:
    first = LPS @ np.diag([*spacing, 1])
    for axis in range(3):
        for share, same in ((0.49, True), (0.51, False)):
            affine = first.copy()
            affine[:3, 3] += share * first[:3, axis]
            case = case_of(tmp_path, affine)
            write_nifti(case.images[0], images()[3], first)
            assert (check_case(case) == []) is same, (axis, share)
            read(case)  # only shifted: used, and said


DIFFERENT = {
    "one slice less": (LPS, images()[0, 1:], "60 x 72 x 19 voxels where flair.nii has 60 x 72 x 20"),
    "larger voxels": (LPS @ np.diag([1, 1, 1.1, 1]), None, "1 x 1 x 2.2 mm where flair.nii has 1 x 1 x 2 mm"),
    "turned": (turn(3) @ LPS, None, "rotated by 3.0 degrees relative to flair.nii"),
    "mirrored": (np.diag([-1, 1, 1, 1]) @ LPS, None, "its axes run RPS where flair.nii has LPS"),
    "axes exchanged": (
        LPS[:, [0, 1, 2, 3]],
        images()[0].swapaxes(1, 2),
        "72 x 60 x 20 voxels where flair.nii",
    ),
}


@pytest.mark.parametrize(("affine", "view", "words"), DIFFERENT.values(), ids=list(DIFFERENT))
def test_what_differs_is_said_alike_by_the_check_and_the_reader(
    tmp_path: Path, affine: NDArray[Any], view: NDArray[Any] | None, words: str
) -> None:
    case = case_of(tmp_path, affine, view)
    (problem,) = check_case(case)
    assert (problem.severity, problem.path) == ("error", case.images[1])
    assert words in problem.what
    with pytest.raises(VolumeError) as caught:
        read(case)
    assert str(caught.value) == str(problem)


def test_a_shift_alone_is_used_and_said_in_mm(tmp_path: Path) -> None:
    affine = LPS.copy()
    affine[:3, 3] += (3, -4, 12)
    case = case_of(tmp_path, affine)
    (problem,) = check_case(case)
    assert problem.severity == "warning"
    assert "its centre is 13.0 mm from that of flair.nii (right +3.0, front -4.0, top +12.0)" in problem.what
    np.testing.assert_array_equal(read(case).images[0], images()[0])


def test_a_shifted_file_that_stores_its_axes_otherwise_may_be_mirrored_and_is_refused(tmp_path: Path) -> None:
    affine = LPS.copy()
    affine[0, 3] += 30
    case = case_of(tmp_path, affine)
    stored_as(case.images[1], "RAS")
    (problem,) = check_case(case)
    assert problem.severity == "error"
    assert "30.0 mm" in problem.what
    with pytest.raises(VolumeError, match="RAS where"):
        read(case)


@pytest.mark.parametrize(
    ("silent", "words"),
    [(0, "the header of flair.nii holds no orientation"), (1, "its header holds no orientation")],
)
def test_a_file_without_orientation_beside_one_that_has_one(tmp_path: Path, silent: int, words: str) -> None:
    case = case_of(tmp_path, LPS)
    image = nib.load(case.images[silent])
    image.header["sform_code"] = image.header["qform_code"] = 0
    case.images[silent].write_bytes(nib.Nifti1Image(image.get_fdata(), None, image.header).to_bytes())
    *_, problem = check_case(case)
    assert (problem.path, problem.severity) == (case.images[1], "error")
    assert words in problem.what
    assert "fslcpgeom" in problem.what
    with pytest.raises(VolumeError, match="holds no orientation"):
        read(case)


@pytest.mark.parametrize("digits", [2, 3])
def test_rounded_headers_are_one_grid(tmp_path: Path, digits: int) -> None:
    """dcm2niix, ITK and the headers of scanners round lengths and cosines each in its own way."""
    affine = turn(17.3) @ turn(-8.1, 0) @ LPS @ np.diag([0.9375, 0.9375, 0.75, 1])
    case = case_of(tmp_path, np.round(affine, digits + 1))
    write_nifti(case.images[0], images()[3], affine)
    assert check_case(case) == []
    read(case)
