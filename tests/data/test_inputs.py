import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.fixtures.sources import discover

from slicewise.data.inputs import DefaultModalities, find_inputs
from slicewise.data.problems import Problem

UNNAMED = DefaultModalities(None, "flair")


def nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones((6, 5, 4), np.int16), np.eye(4)), path)
    return path


def picture(path: Path, colour: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (20, 24, 3) if colour else (20, 24)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, np.uint8)).save(path)
    return path


def patient(root: Path, name: str, *modalities: str) -> Path:
    for modality in modalities:
        nifti(root / name / f"{name}_{modality}.nii.gz")
    return root / name


def names(paths: list[Path], unnamed: DefaultModalities = UNNAMED) -> list[str]:
    cases, problems = find_inputs(paths, unnamed)
    assert [problem for problem in problems if problem.severity == "error"] == []
    return [case.key.case for case in cases]


def errors(paths: list[Path]) -> list[Problem]:
    cases, problems = find_inputs(paths, UNNAMED)
    assert cases == []
    return [problem for problem in problems if problem.severity == "error"]


def test_a_patient_is_one_case_and_its_mask_is_never_opened(tmp_path: Path) -> None:
    folder = patient(tmp_path, "BraTS20_Training_001", "t1", "flair", "seg", "t1ce")
    ((case,), problems) = find_inputs([folder], UNNAMED)
    assert (case.key.case, case.kind, case.modalities) == (folder.name, "brats", ("t1", "t1ce", "flair"))
    assert case.masks == ()
    assert case.label is None
    assert [problem.severity for problem in problems] == ["note"]
    assert case.read().mask is None


def test_a_folder_of_everything_is_sorted(tmp_path: Path) -> None:
    patient(tmp_path, "B_001", "t1", "t2")
    patient(tmp_path, "B_002", "flair")
    for number in (10, 2):
        picture(tmp_path / "lgg" / "TCGA_CS_4941_19960909" / f"TCGA_CS_4941_19960909_{number}.tif", True)
    picture(tmp_path / "yes" / "Y1.JPG")
    picture(tmp_path / "scan_3.tif")
    cases, problems = find_inputs([tmp_path], UNNAMED)
    assert problems == []
    assert {case.key.case: case.kind for case in cases} == {
        "B_001": "brats",
        "B_002": "brats",
        "TCGA_CS_4941_19960909": "lgg",
        "yes-Y1": "class_folders",
        "scan_3": "class_folders",
    }
    (lgg,) = (case for case in cases if case.kind == "lgg")
    assert [path.stem[-2:] for path in lgg.images] == ["_2", "10"], "slices in their order"
    volume = lgg.read()
    assert (volume.shape, volume.mask) == ((2, 20, 24), None)


def test_slices_are_known_by_the_masks_beside_them_and_those_are_passed_over(tmp_path: Path) -> None:
    for number in (1, 2):
        picture(tmp_path / "ward" / f"scan_{number}.tif", True)
        picture(tmp_path / "ward" / f"scan_{number}_mask.tif")
    ((case,), _) = find_inputs([tmp_path / "ward"], UNNAMED)
    assert (case.kind, case.key.case, len(case.images), case.masks) == ("lgg", "scan", 2, ())


def test_files_named_one_by_one_are_gathered_into_their_patient(tmp_path: Path) -> None:
    folder = patient(tmp_path, "P1", "t1", "t2")
    ((case,), _) = find_inputs(sorted(folder.iterdir()), UNNAMED)
    assert case.modalities == ("t1", "t2")


def test_a_volume_with_an_unknown_name_needs_to_be_told(tmp_path: Path) -> None:
    path = nifti(tmp_path / "scan.nii.gz")
    (problem,) = errors([path])
    assert "--modality t1|t1ce|t2|flair" in str(problem)
    ((case,), _) = find_inputs([path], DefaultModalities("t2", "t2"))
    assert (case.key.case, case.modalities) == ("scan", ("t2",))


@pytest.mark.parametrize("unnamed", [UNNAMED, DefaultModalities("flair", "flair")])
def test_plain_names_of_modalities_are_a_patient_called_as_its_folder(
    tmp_path: Path, unnamed: DefaultModalities
) -> None:
    """And `--modality` never overrides what a name says."""
    for name in ("t1", "t1ce", "T2", "flair", "seg"):
        nifti(tmp_path / "Smith" / f"{name}.nii.gz")
    ((case,), problems) = find_inputs([tmp_path], unnamed)
    assert (case.key.case, case.modalities) == ("Smith", ("t1", "t1ce", "t2", "flair"))
    assert [path.name for path in case.images] == ["t1.nii.gz", "t1ce.nii.gz", "T2.nii.gz", "flair.nii.gz"]
    assert [problem.severity for problem in problems] == ["note"]


def test_words_anywhere_in_a_name_tell_the_modality_of_a_patient(tmp_path: Path) -> None:
    paths = [nifti(tmp_path / "smith T1 post.nii"), nifti(tmp_path / "axial t2 smith.nii.gz")]
    ((case,), problems) = find_inputs(paths, DefaultModalities("flair", "flair"))
    assert (problems, case.key.case, case.modalities) == ([], "smith", ("t1ce", "t2"))


@pytest.mark.parametrize(
    ("names", "modalities"),
    [
        (("P_T1", "P_T1ce", "P_T2", "P_T2_FLAIR"), ("t1", "t1ce", "t2", "flair")),
        (("P_T1", "P_T1_Gd", "P_T2"), ("t1", "t1ce", "t2")),
        (("P_t1_bet", "P_t1ce_bet", "P_t2_bet", "P_flair_bet"), ("t1", "t1ce", "t2", "flair")),
        (("P_t1_mprage_sag_p2_iso_5", "P_t2_tirm_tra_dark-fluid_7"), ("t1", "flair")),
        (("P_FLAIR_to_T1", "P_T1"), ("t1", "flair")),
        (("P_T1_5", "P_FLAIR_7"), ("t1", "flair")),
    ],
)
def test_what_people_and_tools_add_makes_no_other_patient(
    tmp_path: Path, names: tuple[str, ...], modalities: tuple[str, ...]
) -> None:
    paths = [nifti(tmp_path / f"{name}.nii.gz") for name in names]
    for given in ([tmp_path], paths):
        ((case,), problems) = find_inputs(given, UNNAMED)
        assert (problems, case.key.case, case.modalities) == ([], "P", modalities)


def test_what_may_be_read_in_two_ways_is_not_guessed(tmp_path: Path) -> None:
    path = nifti(tmp_path / "smith_T1_post_op.nii.gz")
    (problem,) = errors([path])
    assert "its name may say t1 or t1ce" in problem.what
    ((case,), problems) = find_inputs([path], DefaultModalities("t1ce", "flair"))
    assert (problems, case.key.case, case.modalities) == ([], "smith", ("t1ce",))


@pytest.mark.parametrize("name", ["T2-001", "P_seg_01", "flairpatient"])
def test_a_patient_called_like_a_modality_or_a_mask_is_not_misread(tmp_path: Path, name: str) -> None:
    alone = nifti(tmp_path / "alone" / f"{name}.nii.gz")
    assert len(errors([alone])) == 1
    ((case,), problems) = find_inputs([alone], DefaultModalities("t1", "t1"))
    assert (problems, case.key.case, case.modalities) == ([], name, ("t1",))
    folder = patient(tmp_path, name, "t1", "flair", "seg")
    ((case,), problems) = find_inputs([folder], UNNAMED)
    assert (case.key.case, case.modalities, len(problems)) == (name, ("t1", "flair"), 1)


def test_modalities_before_numbers_are_cases_of_these_numbers(tmp_path: Path) -> None:
    for number in ("001", "002"):
        for what in ("T1", "FLAIR"):
            nifti(tmp_path / f"{what}_{number}.nii")
    cases, problems = find_inputs([tmp_path], UNNAMED)
    assert [(case.key.case, case.modalities) for case in cases] == [
        ("001", ("t1", "flair")),
        ("002", ("t1", "flair")),
    ]
    assert problems == []


def test_numbers_of_series_are_one_case_and_said(tmp_path: Path) -> None:
    for name in ("3_t1_mprage", "5_t2_tse", "7_t2_flair"):
        nifti(tmp_path / "Smith" / f"{name}.nii")
    ((case,), (problem,)) = find_inputs([tmp_path], UNNAMED)
    assert (case.key.case, case.modalities) == ("Smith", ("t1", "t2", "flair"))
    assert (problem.severity, "the numbers before the modalities" in problem.what) == ("warning", True)


def test_cases_of_one_modality_each_are_said(tmp_path: Path) -> None:
    nifti(tmp_path / "anna_t1.nii")
    nifti(tmp_path / "bert_flair.nii")
    cases, (problem,) = find_inputs([tmp_path], UNNAMED)
    assert len(cases) == 2
    assert (problem.severity, "taken as 2 cases (anna, bert)" in problem.what) == ("warning", True)


def test_an_image_of_another_kind_is_not_examined(tmp_path: Path) -> None:
    path = nifti(tmp_path / "P_brain_mask.nii")
    assert "another image" in errors([path])[0].what
    nifti(tmp_path / "P_t1.nii")
    ((case,), (problem,)) = find_inputs([tmp_path], UNNAMED)
    assert (case.modalities, problem.severity) == (("t1",), "note")


def test_masks_beside_pictures_and_in_folders_of_their_own_are_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / "x.png")
    for name in ("x_mask.png", "xseg.png", "masks/x.png"):
        picture(tmp_path / name)
    ((case,), problems) = find_inputs([tmp_path], UNNAMED)
    assert (case.key.case, {problem.severity for problem in problems}, len(problems)) == ("x", {"note"}, 3)


def test_the_files_of_bids_are_one_patient(tmp_path: Path) -> None:
    for name in ("T1w", "ce-gadolinium_T1w", "T2w", "FLAIR"):
        nifti(tmp_path / "anat" / f"sub-01_{name}.nii.gz")
    ((case,), _) = find_inputs([tmp_path], UNNAMED)
    assert (case.key.case, case.modalities) == ("sub-01", ("t1", "t1ce", "t2", "flair"))


def test_cases_with_equal_names_are_told_apart_and_a_path_given_twice_counts_once(tmp_path: Path) -> None:
    one, other = picture(tmp_path / "a" / "x.png"), picture(tmp_path / "b" / "X.png")
    assert names([one, other, one]) == ["x", "X-2"]
    assert names([tmp_path / "a", one]) == ["x"]


@pytest.mark.parametrize("name", ["P_seg.nii.gz", "P_mask.nii.gz", "seg.nii", "P_mask.png"])
def test_a_mask_is_not_examined_and_said_so_where_it_was_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    nifti(path) if ".nii" in name else picture(path)
    (problem,) = errors([path])
    assert (problem.path, "a mask by its name" in str(problem)) == (path, True)
    assert errors([tmp_path]) == []


def test_what_is_not_there_or_of_no_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    found = errors([tmp_path / "none", tmp_path / "notes.txt", tmp_path / "empty"])
    assert [problem.path.name for problem in found] == ["notes.txt", "none", "empty"]


def test_an_unpacked_wrapper_folder_is_no_case_of_its_own(tmp_path: Path) -> None:
    folder = patient(tmp_path, "P1", "t1")
    wrapped = nifti(folder / "P1_flair.nii" / "x.nii")
    ((case,), _) = find_inputs([folder], UNNAMED)
    assert case.modalities == ("t1", "flair")
    assert wrapped in case.images
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("scan.nrrd", b"NRRD0004\n", "an NRRD volume; convert it to .nii.gz"),
        ("scan.dcm", bytes(128) + b"DICM", "truncated or corrupt DICOM file"),
        ("scan.hdr", (348).to_bytes(4, "little") + bytes(344), "an Analyze 7.5 header"),
        ("scan.zip", b"PK\x03\x04", "a zip archive; unpack it"),
        ("notes", b"x", "neither a picture nor a volume"),
    ],
)
def test_a_named_file_of_another_kind_is_called_what_it_is(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    cases, (problem,) = find_inputs([tmp_path / name], DefaultModalities(None, "flair"))
    assert cases == []
    assert problem.what.startswith(words)


PASSED_OVER: dict[str, tuple[bytes, str]] = {
    "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture or a film; save it as PNG"),
    "slice.dcm": (bytes(128) + b"DICM" + bytes(60), "a DICOM file; convert the series to .nii.gz"),
    "IM0002": (bytes(128) + b"DICM", "DICOM"),
    "report.pdf": (b"%PDF-1.7", "PDF"),
    "brain.mha": (b"ObjectType = Image", "a MetaImage volume; convert it to .nii.gz"),
    "brain.nrrd": (b"NRRD0005", "NRRD"),
    "more.zip": (b"PK\x03\x04", "a zip archive; unpack it"),
    "notes.txt": (b"text", "neither a picture nor a volume"),
    "lost": (b"", "the file is empty"),
}


def test_every_file_that_is_passed_over_is_listed_with_the_reason(tmp_path: Path) -> None:
    picture(tmp_path / "yes" / "y.png")
    for name, (content, _) in PASSED_OVER.items():
        (tmp_path / "yes" / name).write_bytes(content)
    damaged = {"slice.dcm", "IM0002"}  # prediction reads DICOM
    for (cases, problems), read in (
        (find_inputs([tmp_path], UNNAMED), damaged),
        (discover("class_folders", tmp_path, "set"), set()),
    ):
        assert len(cases) == 1
        reasons = {problem.path.name: problem.what for problem in problems if problem.severity == "note"}
        assert set(reasons) == set(PASSED_OVER) - read
        for name in reasons:
            assert PASSED_OVER[name][1] in reasons[name]
        assert {problem.path.name for problem in problems if problem.severity == "error"} == read


def test_a_file_named_on_purpose_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(PASSED_OVER["photo.heic"][0])
    (problem,) = errors([path])
    assert "HEIC" in problem.what
