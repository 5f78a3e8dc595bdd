import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.fixtures.sources import discover

from slicewise.core.errors import VolumeError
from slicewise.data.cases import CaseFiles, check_case, check_source
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
SHAPE = (12, 10, 8)


def write_nifti(path: Path, shape: tuple[int, ...] = SHAPE, shift: float = 0.0) -> None:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[0, 3] = shift
    array = np.random.default_rng(0).integers(0, 2, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.fixture(params=[".nii", ".nii.gz"])
def case(tmp_path: Path, request: pytest.FixtureRequest) -> CaseFiles:
    paths = [tmp_path / f"P_{what}{request.param}" for what in (*MODALITIES, "seg")]
    for path in paths:
        write_nifti(path)
    return CaseFiles(CaseKey("s", "P", "P"), "brats", MODALITIES, tuple(paths[:4]), (paths[4],), None, "P")


def test_a_sound_case_has_no_problem(case: CaseFiles) -> None:
    assert check_case(case) == []


def test_missing_and_empty_files_are_named(case: CaseFiles) -> None:
    case.images[1].unlink()
    assert [(problem.path, problem.what) for problem in check_case(case)] == [
        (case.images[1], "the file is missing")
    ]
    case.images[1].write_bytes(b"")
    assert check_case(case)[0].what == "the file is empty"


def test_a_mask_of_another_shape_is_an_error(case: CaseFiles) -> None:
    write_nifti(case.masks[0], (12, 10, 9))
    (problem,) = check_case(case)
    assert (problem.path, problem.severity) == (case.masks[0], "error")
    assert "12 x 10 x 9 voxels where P_t1" in problem.what


def test_another_affine_is_a_warning(case: CaseFiles) -> None:
    write_nifti(case.images[2], shift=5.0)
    (problem,) = check_case(case)
    assert (problem.path, problem.severity) == (case.images[2], "warning")
    assert f"is 5.0 mm from that of {case.images[0].name} (right +5.0, front +0.0, top +0.0)" in problem.what


def test_four_dimensions_are_refused_unless_the_last_is_one(case: CaseFiles) -> None:
    write_nifti(case.images[0], (*SHAPE, 1))
    assert check_case(case) == []
    write_nifti(case.images[0], (*SHAPE, 2))
    assert "2 volumes in one file" in check_case(case)[0].what


def test_every_truncation_is_seen(case: CaseFiles) -> None:
    whole = case.images[0].read_bytes()
    for share in (0.05, 0.3, 0.6, 0.95):
        case.images[0].write_bytes(whole[: int(len(whole) * share)])
        assert [problem.severity for problem in check_case(case)] == ["error"], share


def test_what_is_no_nifti_is_named(case: CaseFiles) -> None:
    case.images[0].write_bytes(b"<html>" * 200)
    (problem,) = check_case(case)
    assert problem.what.startswith("not a NIfTI file but an HTML page")


def test_a_file_in_several_gzip_members_is_sound(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", (64, 64, 300))
    data = (tmp_path / "a.nii").read_bytes()
    half = len(data) // 2
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data[:half], 1) + gzip.compress(data[half:], 1))
    case = CaseFiles(CaseKey("s", "P", "P"), "brats", ("t1",), (tmp_path / "b.nii.gz",), (), None, "P")
    assert check_case(case) == []


def test_damage_that_headers_hide_is_found_on_reading(case: CaseFiles) -> None:
    array = np.full(SHAPE, np.nan, np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0])), case.images[0])
    assert check_case(case) == []
    with pytest.raises(VolumeError, match="NaN"):
        case.read()


def test_slices_of_another_size_and_damaged_ones_are_named(tmp_path: Path) -> None:
    images: list[Path] = []
    masks: list[Path] = []
    for number in range(3):
        for paths, name in ((images, f"{number}.tif"), (masks, f"{number}_mask.tif")):
            Image.new("L", (32, 16 if name == "1_mask.tif" else 32)).save(tmp_path / name)
            paths.append(tmp_path / name)
    images[2].write_bytes(b"damaged")
    case = CaseFiles(CaseKey("s", "P", "P"), "lgg", MODALITIES[:3], tuple(images), tuple(masks), None, "P")
    assert {(problem.path.name, problem.severity) for problem in check_case(case)} == {
        ("2.tif", "error"),
        ("1_mask.tif", "error"),
    }


def test_broken_cases_are_left_out_and_the_others_kept_in_order(case: CaseFiles, tmp_path: Path) -> None:
    broken = CaseFiles(CaseKey("s", "Q", "Q"), "brats", ("t1",), (tmp_path / "absent.nii",), (), None, "Q")
    picture = CaseFiles(CaseKey("s", "R", "R"), "class_folders", ("t1",), (case.images[0],), (), 1, "R")
    usable, problems = check_source("s", tmp_path, [picture, broken, case])
    assert usable == [picture, case]
    assert [problem.path for problem in problems] == [tmp_path / "absent.nii"]


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="real data are not beside the checkout")
def test_real_cases_are_sound() -> None:
    for kind in ("brats", "lgg"):
        cases, _ = discover(kind, SHARED / kind, kind)
        assert check_source(kind, SHARED / kind, cases) == (cases, [])
