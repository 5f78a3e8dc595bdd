from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.core.errors import DataError
from slicewise.core.labels import MODALITIES
from slicewise.data.sources import discover
from slicewise.data.sources.brats import FileName, parse_name, patient_of

REAL = Path(__file__).resolve().parents[3] / "../shared/data/brats"
FIVE = ("t1", "t1ce", "t2", "flair", "seg")
NEW = ("t1n", "t1c", "t2w", "t2f", "seg")


def write_case(folder: Path, what: Iterable[str] = FIVE, joint: str = "_", ending: str = ".nii.gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in what:
        (folder / f"{folder.name}{joint}{name}{ending}").touch()
    return folder


@given(
    st.from_regex(r"[A-Za-z0-9]+([-_][A-Za-z0-9]+){0,4}", fullmatch=True).filter(
        lambda name: "_ce-" not in name
    ),
    st.sampled_from([*zip((*FIVE, *NEW), 2 * ("t1", "t1ce", "t2", "flair", None), strict=True)]),
    st.sampled_from("-_"),
    st.sampled_from([".nii", ".nii.gz", ".NII.GZ"]),
    st.booleans(),
)
def test_every_release_s_names_are_read(
    case: str, what: tuple[str, str | None], joint: str, ending: str, upper: bool
) -> None:
    suffix, modality = what
    name = parse_name(f"{case}{joint}{suffix.upper() if upper else suffix}{ending}")
    assert name is not None
    assert (name.case, name.modality) == (case, modality)


@pytest.mark.parametrize(
    "name", ["W39_1998.09.19_Segm.nii", "readme.nii", "_t1.nii", "t1.nii.gz", "x_t3.nii"]
)
def test_other_names_say_nothing(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("Brats18_2013_21_1", "Brats18_2013_21"),
        ("BraTS19_TCIA10_152_1", "BraTS19_TCIA10_152"),
        ("Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("BraTS2021_00006", "BraTS2021_00006"),
        ("BraTS-GLI-00000-000", "BraTS-GLI-00000"),
        ("BraTS-MET-00089-001", "BraTS-MET-00089"),
        ("Phantom_00012", "Phantom_00012"),
    ],
)
def test_the_patient_is_the_case_without_its_visit(case: str, patient: str) -> None:
    assert patient_of(case) == patient


def test_every_release_is_found_in_any_nesting(tmp_path: Path) -> None:
    training = tmp_path / "BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData"
    write_case(training / "BraTS20_Training_001", ending=".nii")
    write_case(tmp_path / "HGG/Brats18_2013_21_1")
    write_case(tmp_path / "LGG/Brats18_TCIA09_255_1", ending=".NII.GZ")
    write_case(tmp_path / "BraTS2021_00006")
    write_case(tmp_path / "Phantom_00012")
    write_case(tmp_path / "deep/er/BraTS-GLI-00000-000", NEW, "-")
    write_case(tmp_path / "deep/er/BraTS-GLI-00000-001", NEW, "-")
    (training / "name_mapping.csv").touch()
    cases, (problem, table) = discover("brats", tmp_path, "brats")
    assert problem.what.startswith("names of several releases")
    assert (table.path.name, table.severity) == ("name_mapping.csv", "note")
    assert len(cases) == 7
    assert len({case.group for case in cases}) == 6
    for case in cases:
        assert case.modalities == MODALITIES
        assert case.kind == "nifti"
        names = [parse_name(path.name) for path in case.images]
        assert [name.modality for name in names if name] == list(MODALITIES)
        assert "seg" in case.masks[0].name
        assert case.group == case.key.patient


def test_containers_and_empty_folders_are_no_patients(tmp_path: Path) -> None:
    write_case(tmp_path / "MICCAI_BraTS2020_TrainingData/BraTS20_Training_001")
    (tmp_path / "MICCAI_BraTS2020_TrainingData/BraTS20_Training_002").mkdir()
    (tmp_path / "BraTS20_Training_003").mkdir()
    cases, _ = discover("brats", tmp_path, "brats")
    assert [case.key.case for case in cases] == ["BraTS20_Training_001"]


def test_patient_355_keeps_its_mask(tmp_path: Path) -> None:
    folder = write_case(tmp_path / "BraTS20_Training_355", FIVE[:4], ending=".nii")
    (folder / "W39_1998.09.19_Segm.nii").touch()
    (case,), (problem,) = discover("brats", tmp_path, "brats")
    assert case.masks == (folder / "W39_1998.09.19_Segm.nii",)
    assert (problem.severity, problem.path) == ("warning", case.masks[0])


def test_a_strange_mask_is_not_given_to_one_of_several_cases(tmp_path: Path) -> None:
    for name in ("BraTS20_Training_001", "BraTS20_Training_002"):
        for what in FIVE[: 5 if name.endswith("1") else 4]:
            (tmp_path / f"{name}_{what}.nii").touch()
    (tmp_path / "W39_Segm.nii").touch()
    cases, problems = discover("brats", tmp_path, "brats")
    assert [case.key.case for case in cases] == ["BraTS20_Training_001"]
    assert sorted(problem.severity for problem in problems) == ["error", "note"]


def test_a_missing_modality_leaves_its_slot_empty(tmp_path: Path) -> None:
    folder = write_case(tmp_path / "BraTS20_Training_001", ("t1", "flair", "seg"))
    (case,), (problem,) = discover("brats", tmp_path, "brats")
    assert case.modalities == ("t1", "flair")
    assert len(case.images) == 2
    assert (problem.path, problem.severity) == (folder, "warning")
    assert "t1ce, t2" in problem.what


def test_unlabelled_cases_are_left_out_and_said(tmp_path: Path) -> None:
    write_case(tmp_path / "train/BraTS20_Training_001")
    for number in range(3):
        write_case(tmp_path / f"val/BraTS20_Validation_{number:03d}", FIVE[:4])
    cases, problems = discover("brats", tmp_path, "brats")
    assert len(cases) == 1
    assert [problem.severity for problem in problems] == ["error"] * 3
    assert len({problem.what for problem in problems}) == 1


def test_a_case_that_comes_twice_is_taken_once_with_its_mask(tmp_path: Path) -> None:
    write_case(tmp_path / "a/BraTS20_Training_001", FIVE[:4])
    labelled = write_case(tmp_path / "b/BraTS20_Training_001")
    (case,), (problem,) = discover("brats", tmp_path, "brats")
    assert case.folder == labelled
    assert (problem.path, problem.severity) == (tmp_path / "a/BraTS20_Training_001", "note")


def test_names_outside_ascii_are_patients_of_their_own(tmp_path: Path) -> None:
    names = ("张伟", "Иванов", "Müller_1", "Möller_1")
    for name in names:
        write_case(tmp_path / name)
    cases, problems = discover("brats", tmp_path, "brats")
    assert problems == []
    assert {case.folder.name for case in cases} == set(names)
    assert len({case.group for case in cases}) == 4


def test_visits_of_a_patient_outside_ascii_stay_together(tmp_path: Path) -> None:
    for name in ("Brats18_Köln_1", "Brats18_Köln_2", "Brats18_Kõln_1"):
        write_case(tmp_path / name)
    cases, _ = discover("brats", tmp_path, "brats")
    assert len({case.key for case in cases}) == 3
    assert len({case.group for case in cases}) == 2


def test_two_files_of_one_kind_are_taken_once(tmp_path: Path) -> None:
    folder = write_case(tmp_path / "BraTS20_Training_001")
    write_case(folder, ("t1",), ending=".nii")
    (case,), (problem,) = discover("brats", tmp_path, "brats")
    assert len(case.images) == 4
    assert problem.what.startswith("a second file of its kind")


def test_a_file_unpacked_to_a_folder_of_its_name_is_found(tmp_path: Path) -> None:
    for what in FIVE:
        wrapper = tmp_path / "Brats18_CBICA_AAG_1" / f"Brats18_CBICA_AAG_1_{what}.nii"
        wrapper.mkdir(parents=True)
        (wrapper / f"0000_brain_{'seg' if what == 't1' else what}.nii").touch()
    (case,), problems = discover("brats", tmp_path, "brats")
    assert problems == []
    assert case.key.case == "Brats18_CBICA_AAG_1"
    assert case.modalities == MODALITIES


def test_masks_without_images_belong_to_nobody(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS20_Training_001")
    write_case(tmp_path / "BraTS20_Training_002", ("seg",))
    cases, problems = discover("brats", tmp_path, "brats")
    assert len(cases) == 1
    assert [problem.what for problem in problems] == ["a mask without images, ignored"]


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"{tmp_path.name} holds no case; expected BraTS cases.*_flair.*_seg"
    ):
        discover("brats", tmp_path, "brats")


def test_a_folder_without_any_mask_is_refused(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS20_Validation_001", FIVE[:4])
    with pytest.raises(DataError, match="1 cases and none has a mask"):
        discover("brats", tmp_path, "brats")


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="real BraTS cases are not beside the checkout")
def test_real_patients_are_found() -> None:
    cases, (problem,) = discover("brats", REAL, "brats")
    assert len(cases) == 6
    assert "BraTS2021_, Brats18_" in problem.what
    assert {case.modalities for case in cases} == {MODALITIES}
    assert "Brats18_2013_21" in {case.group for case in cases}


def test_the_contrast_agent_of_bids_makes_a_t1ce() -> None:
    assert parse_name("sub-01_ce-gadolinium_T1w.nii.gz") == FileName("sub-01", "t1ce")
    assert parse_name("sub-01_T1w.nii.gz") == FileName("sub-01", "t1")
    assert parse_name("sub-01_FLAIR.nii.gz") == FileName("sub-01", "flair")
