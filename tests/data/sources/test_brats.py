import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.fixtures.sources import discover

from slicewise.core.errors import DataError
from slicewise.data.cases import CaseFiles
from slicewise.data.filenames import parse_filename
from slicewise.domain.labels import LABEL_FORMATS, MODALITIES

REAL = Path(__file__).resolve().parents[3] / "../shared/data/brats"
FIVE = ("t1", "t1ce", "t2", "flair", "seg")
NEW = ("t1n", "t1c", "t2w", "t2f", "seg")


def write_case(folder: Path, what: Iterable[str] = FIVE, joint: str = "_", ending: str = ".nii.gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in what:
        (folder / f"{folder.name}{joint}{name}{ending}").touch()
    return folder


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
        assert case.kind == "brats"
        assert [parse_filename(path).kind for path in case.images] == list(MODALITIES)
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


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_two_words_for_flair_fill_its_slot(tmp_path: Path) -> None:
    touch(tmp_path, *(f"P01/P01_{what}.nii.gz" for what in ("T1", "T1ce", "T2", "T2_FLAIR", "seg")))
    touch(tmp_path, *(f"P02/P02_{what}.nii.gz" for what in ("T1", "T1_Gd", "T2", "FLAIR", "seg")))
    cases, problems = discover("brats", tmp_path, "brats")
    assert problems == []
    assert [(case.key.case, case.modalities) for case in cases] == [("P01", MODALITIES), ("P02", MODALITIES)]


def test_what_tools_add_keeps_a_patient_together(tmp_path: Path) -> None:
    touch(tmp_path, *(f"P03_{what}_bet.nii.gz" for what in ("t1", "t1ce", "t2", "flair")), "P03_seg.nii.gz")
    touch(tmp_path, *(f"P03_{what}_bet_mask.nii.gz" for what in ("t1", "t1ce", "t2", "flair")))
    (case,), problems = discover("brats", tmp_path, "brats")
    assert (case.key.case, case.modalities, case.masks[0].name) == ("P03", MODALITIES, "P03_seg.nii.gz")
    assert {problem.severity for problem in problems} == {"note"}


def test_the_variant_that_most_modalities_have_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, *(f"P_{what}_bet.nii" for what in ("T1", "T1ce", "T2", "FLAIR")), "P_T1.nii", "P_seg.nii")
    (case,), (problem,) = discover("brats", tmp_path, "brats")
    assert [path.name for path in case.images] == [f"P_{w}_bet.nii" for w in ("T1", "T1ce", "T2", "FLAIR")]
    assert (problem.path.name, problem.what) == ("P_T1.nii", "another variant of t1: P_T1_bet.nii is used")


def test_two_files_that_fit_as_well_are_said(tmp_path: Path) -> None:
    touch(tmp_path, "P_t1_n4.nii", "P_t1_bet.nii", "P_seg.nii")
    (case,), problems = discover("brats", tmp_path, "brats")
    assert [path.name for path in case.images] == ["P_t1_bet.nii"]
    (said,) = (problem for problem in problems if problem.path.name == "P_t1_n4.nii")
    assert (said.severity, "as good a t1 as P_t1_bet.nii" in said.what) == ("warning", True)


UCSF = (
    "brain_segmentation",
    "brain_parenchyma_segmentation",
    "tumor_segmentation",
    "T1",
    "T1_bias",
    "T1c",
    "T2",
)


def test_the_mask_of_a_tumour_is_taken_and_never_that_of_the_brain(tmp_path: Path) -> None:
    name = "UCSF-PDGM-0004"
    touch(tmp_path, *(f"{name}_nifti/{name}_{what}.nii.gz" for what in (*UCSF, "FLAIR", "DTI_eddy_FA")))
    (case,), problems = discover("brats", tmp_path, "ucsf")
    assert (case.key.case, case.modalities) == (name, MODALITIES)
    assert case.masks[0].name == f"{name}_tumor_segmentation.nii.gz"
    assert {problem.path.name for problem in problems if "another image" in problem.what} == {
        f"{name}_{what}.nii.gz" for what in (*UCSF[:2], "DTI_eddy_FA")
    }


def test_a_brain_mask_alone_is_no_mask(tmp_path: Path) -> None:
    touch(tmp_path, "P_t1.nii", "P_brain_seg.nii", "Q_t1.nii", "Q_seg.nii")
    cases, problems = discover("brats", tmp_path, "brats")
    assert [case.key.case for case in cases] == ["Q"]
    assert "no mask (..._seg.nii)" in {problem.what for problem in problems}


def test_several_masks_are_refused_by_name_and_a_key_says_which(tmp_path: Path) -> None:
    for case in ("P", "Q"):
        touch(tmp_path, *(f"{case}_{what}.nii" for what in ("t1", "WT", "TC", "ET")))
    with pytest.raises(DataError, match=r"P_ET\.nii, P_TC\.nii, P_WT\.nii.*volumes\.mask, such as"):
        discover("brats", tmp_path, "brats")
    cases, _ = discover("brats", tmp_path, "brats", mask="*_wt.nii*")
    assert [case.masks[0].name for case in cases] == ["P_WT.nii", "Q_WT.nii"]
    touch(tmp_path, "R_t1.nii", "R_seg.nii")
    (only,), problems = discover("brats", tmp_path, "brats")
    assert only.key.case == "R"
    assert [problem.severity for problem in problems if "several files may be" in problem.what] == [
        "error"
    ] * 2


@pytest.mark.parametrize(
    ("taken", "other"),
    [
        ("P_tumor_seg.nii", "P_seg.nii"),
        ("P_seg.nii", "P_auto_seg.nii"),
        ("P_seg.nii", "P_t1_seg.nii"),
        ("P_GlistrBoost_ManuallyCorrected.nii", "P_GlistrBoost.nii"),
    ],
)
def test_the_better_mask_is_taken_and_the_other_listed(tmp_path: Path, taken: str, other: str) -> None:
    touch(tmp_path, "P_t1.nii", taken, other)
    (case,), problems = discover("brats", tmp_path, "brats")
    assert case.masks[0].name == taken
    assert [problem.what for problem in problems if problem.path.name == other] == [
        f"a mask, not used: {taken} is"
    ]


def test_masks_in_a_folder_of_their_own_find_their_case(tmp_path: Path) -> None:
    for name in ("UPENN-GBM-00001_11", "UPENN-GBM-00002_11"):
        touch(tmp_path, *(f"images/{name}/{name}_{what}.nii.gz" for what in ("T1", "T1GD", "T2", "FLAIR")))
        touch(tmp_path, f"automated_segm/{name}_automated_approx_segm.nii.gz")
    touch(tmp_path, "images_segm/UPENN-GBM-00001_11_segm.nii.gz")
    cases, problems = discover("brats", tmp_path, "upenn")
    assert [case.masks[0].parent.name for case in cases] == ["images_segm", "automated_segm"]
    assert [case.group for case in cases] == ["UPENN-GBM-00001", "UPENN-GBM-00002"]
    assert [problem.what for problem in problems] == ["a mask, not used: UPENN-GBM-00001_11_segm.nii.gz is"]


def test_folders_name_cases_and_visits(tmp_path: Path) -> None:
    for patient in ("Patient-001", "Patient-002"):
        for week in ("week-000-1", "week-044"):
            files = ("T1", "CT1", "T2", "FLAIR", "segmentation")
            touch(tmp_path, *(f"{patient}/{week}/{what}.nii.gz" for what in files))
    cases, problems = discover("brats", tmp_path, "lumiere")
    assert problems == []
    assert [case.key.case for case in cases][:2] == ["Patient-001_week-000-1", "Patient-001_week-044"]
    assert {case.group for case in cases} == {"Patient-001", "Patient-002"}


def test_folders_of_the_same_name_are_not_one_patient(tmp_path: Path) -> None:
    for site in ("A", "B"):
        touch(tmp_path, *(f"{site}/scan/{what}.nii" for what in ("t1", "seg")))
    cases, problems = discover("brats", tmp_path, "brats")
    assert ([case.key.case for case in cases], len(problems)) == (["A_scan", "B_scan"], 2)


def test_folders_of_one_name_at_any_depth_stay_apart_and_visits_together(tmp_path: Path) -> None:
    for patient in ("P1", "P2"):
        for week in ("week-000", "week-044"):
            files = (f"{patient}/{week}/auto/native/{what}.nii" for what in ("t1", "segmentation"))
            touch(tmp_path, *files)
    cases, _ = discover("brats", tmp_path, "lumiere")
    assert len({case.key.case for case in cases}) == 4
    assert cases[0].key.case == "P1_week-000_auto_native"
    assert {case.group for case in cases} == {"P1", "P2"}


def test_a_folder_for_each_series_of_a_patient(tmp_path: Path) -> None:
    for folder, what in (("101_head_T1", "T1"), ("204_head_FLAIR", "T2_FLAIR"), ("drawn", "seg")):
        touch(tmp_path, f"Smith/{folder}/Smith_{what}.nii")
    (case,), problems = discover("brats", tmp_path, "brats")
    assert (case.key.case, case.modalities, case.masks[0].name) == ("Smith", ("t1", "flair"), "Smith_seg.nii")
    assert [problem.what for problem in problems] == ["no t1ce, t2: the slot stays empty"]


def test_one_folder_for_each_modality(tmp_path: Path) -> None:
    for patient in ("P1", "P2"):
        touch(tmp_path, *(f"{folder}/{patient}.nii.gz" for folder in ("T1", "FLAIR", "labels")))
    cases, _ = discover("brats", tmp_path, "brats")
    assert [(case.key.case, case.modalities) for case in cases] == [
        ("P1", ("t1", "flair")),
        ("P2", ("t1", "flair")),
    ]


def test_paediatric_labels_must_be_named(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS-PED-00001-000", NEW, "-")
    with pytest.raises(DataError, match=r"data\.sources\.volumes\.labels=brats_ped"):
        discover("brats", tmp_path, "brats")
    (case,), _ = discover("brats", tmp_path, "brats", labels="brats_ped")
    assert case.labels == LABEL_FORMATS["brats_ped"]


def test_what_the_labels_mean_goes_with_the_case(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS2021_00006")
    write_case(tmp_path / "BraTS-GLI-00000-000", NEW, "-")
    cases, _ = discover("brats", tmp_path, "brats")
    assert {case.key.case: case.labels for case in cases} == {
        "BraTS2021_00006": None,
        "BraTS-GLI-00000-000": LABEL_FORMATS["brats2023"],
    }
    for case in cases:
        assert CaseFiles.from_json(json.loads(json.dumps(case.to_json(tmp_path))), tmp_path) == case
