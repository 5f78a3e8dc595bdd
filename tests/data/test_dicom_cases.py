"""Which series of a folder become which case, and what is said about each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures.dicom import Series, write_directory

from slicewise.data.cases import CaseFiles, read_case
from slicewise.data.dicom_modality import explain_left_out, guess_modality
from slicewise.data.inputs import DefaultModalities, find_inputs
from slicewise.data.problems import Problem
from slicewise.domain.labels import MODALITIES
from slicewise.imaging.io.dicom_frames import read_frames

UNNAMED = DefaultModalities(None, "flair", MODALITIES)


def voxels(count: int = 6) -> Any:
    return np.random.default_rng(0).integers(1, 250, (count, 5, 4)).astype(np.int16)


def find(*paths: Path, unnamed: DefaultModalities = UNNAMED) -> tuple[list[CaseFiles], list[Problem]]:
    return find_inputs(paths, unnamed)


def lines(case: CaseFiles) -> list[str]:
    return [problem.what for problem in case.check()]


def patient(folder: Path, *descriptions: str, **common: Any) -> list[Series]:
    series = [
        Series(voxels() + number, description=text, number=number, **common)
        for number, text in enumerate(descriptions, 1)
    ]
    for each in series:
        each.write(folder / f"series{each.number}")
    return series


def test_series_of_a_study_are_one_case_and_each_modality_is_said(tmp_path: Path) -> None:
    series = patient(tmp_path / "anna", "AX T1", "AX T1 POST GD", "AX T2 TSE", "AX T2 FLAIR", "Survey")
    (case,), (problem,) = find(tmp_path / "anna")
    assert (case.key.case, case.modalities, case.unit) == ("anna", MODALITIES, "volume")
    assert lines(case)[1] == (
        't1ce: series 2 "AX T1 POST GD", 6 slices, by SeriesDescription "AX T1 POST GD"'
    )
    read = read_case(case)
    for slot in range(4):
        np.testing.assert_array_equal(read.volume.images[slot], series[slot].voxels)
    assert len(read.warnings) == 4
    assert (problem.severity, problem.path.name) == ("note", "series5")
    assert 'series 5 "Survey" (6 files): a localizer by its SeriesDescription' in problem.what


def test_files_in_one_heap_named_one_by_one_or_with_suffix_are_the_same_case(tmp_path: Path) -> None:
    for number, text in enumerate(("T1", "FLAIR"), 1):
        for path in Series(voxels(), description=text, number=number).write(tmp_path / "in"):
            path.rename(tmp_path / f"{number}{path.name}.DCM")
    (case,), problems = find(*sorted(tmp_path.glob("*.DCM")))
    assert (problems, case.modalities, len(case.images)) == ([], ("t1", "flair"), 12)


def test_two_patients_in_one_folder_are_two_cases_named_by_their_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        patient(tmp_path / name / "DICOM", "T1", "FLAIR", study=f"1.2.{number}", patient="Smith")
    cases, problems = find(tmp_path)
    assert problems == []
    assert [case.key.case for case in cases] == ["a", "b"]
    assert all(len(case.images) == 12 for case in cases)


def test_two_patients_in_one_heap_are_numbered_and_no_identity_is_shown(tmp_path: Path) -> None:
    for number in (1, 2):
        files = Series(voxels(), study=f"1.2.{number}", patient="Smith").write(tmp_path / str(number))
        for path in files:
            path.rename(tmp_path / f"{number}{path.name}")
    cases, problems = find(tmp_path)
    assert [case.key.case for case in cases] == [tmp_path.name, f"{tmp_path.name}-2"]
    assert "Smith" not in str([cases[0].key, problems, lines(cases[0])])


def test_two_patients_under_one_study_uid_are_two_cases(tmp_path: Path) -> None:
    for name in ("a", "b"):
        patient(tmp_path / name, "T1", patient=name)
    cases, _ = find(tmp_path)
    assert [case.key.case for case in cases] == ["a", "b"]


def test_a_patient_id_that_is_no_identity_names_the_case(tmp_path: Path) -> None:
    Series(voxels(), patient="UPENN-GBM-00001", tags={"PatientIdentityRemoved": "YES"}).write(tmp_path)
    ((case,), _) = find(tmp_path)
    assert case.key.case == "UPENN-GBM-00001"


def test_junk_in_the_folder_is_listed_and_stops_nothing(tmp_path: Path) -> None:
    patient(tmp_path, "FLAIR")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "zeros.dcm").write_bytes(bytes(500))
    (tmp_path / "cut").write_bytes((tmp_path / "series1" / "IM0001").read_bytes()[:200])
    Series(voxels(1), tags={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}).write(tmp_path / "seg")
    Series(voxels(1), tags={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}).write(tmp_path / "capture")
    (case,), problems = find(tmp_path)
    assert len(case.images) == 6
    by_name = {problem.path.name: problem for problem in problems}
    assert {name: by_name[name].severity for name in ("notes.txt", "empty.dcm", "zeros.dcm", "cut")} == {
        "notes.txt": "note",
        "empty.dcm": "error",
        "zeros.dcm": "error",
        "cut": "error",
    }
    left_out = [problem.what for problem in problems if "no MR image" in problem.what]
    assert len(left_out) == 2


def test_copies_of_files_are_read_once(tmp_path: Path) -> None:
    patient(tmp_path, "FLAIR")
    for path in (tmp_path / "series1").iterdir():
        (tmp_path / f"copy of {path.name}").write_bytes(path.read_bytes())
    (case,), (problem,) = find(tmp_path)
    assert len(case.images) == 6
    assert "6 files with the SOPInstanceUID of another" in problem.what


def test_a_directory_file_names_its_files(tmp_path: Path) -> None:
    source = Series(voxels(), description="FLAIR")
    source.write(tmp_path / "in" / "SER1")
    write_directory(tmp_path / "in" / "DICOMDIR", sorted((tmp_path / "in").rglob("IM*")))
    for given in (tmp_path / "in", tmp_path / "in" / "DICOMDIR"):
        (case,), problems = find(given)
        assert (problems, case.key.case) == ([], "in")
        np.testing.assert_array_equal(case.read().images[3], source.voxels)
    case.images[0].unlink()
    (case,), (problem,) = find(tmp_path / "in" / "DICOMDIR")
    assert "names 6 files, of which 1 are not beside it" in problem.what


def test_a_series_on_another_grid_is_left_out_and_nothing_is_resampled(tmp_path: Path) -> None:
    patient(tmp_path, "AX T1", "AX FLAIR")
    Series(voxels(4), description="SAG T2", number=7, step=np.array([0, 0, 5.0])).write(tmp_path / "s7")
    (case,), problems = find(tmp_path)
    assert (problems, case.modalities) == ([], ("t1", "flair"))
    assert 't2: series 7 "SAG T2" is left out: 4 x 5 x 4 voxels where series 1 "AX T1" has' in lines(case)[2]
    assert "does not resample" in lines(case)[2]


def test_where_every_series_has_its_own_grid_that_of_the_slot_is_used(tmp_path: Path) -> None:
    for number, text in enumerate(("T1", "FLAIR", "T2"), 1):
        step = np.array([0, 0, 1.0 + number])
        Series(voxels(), description=text, number=number, step=step).write(tmp_path / text)
    (case,), _ = find(tmp_path)
    assert case.modalities == ("flair",)
    assert sum("is left out" in line for line in lines(case)) == 2


def test_of_two_series_of_a_modality_one_is_used_by_the_documented_rule(tmp_path: Path) -> None:
    patient(tmp_path, "AX T1", "AX T1 repeat", "AX T1 repeat", "T2")
    derived = {"ImageType": ["DERIVED", "SECONDARY"]}
    Series(voxels(), description="T1 MPR", number=9, tags=derived).write(tmp_path / "derived")
    (case,), _ = find(tmp_path)
    assert case.modalities == ("t1", "t2")
    assert lines(case)[0].startswith('t1: series 3 "AX T1 repeat"')
    left = [line for line in lines(case) if "is left out" in line]
    assert len(left) == 3
    assert "rule: named by a tag, original, most slices, highest number" in left[0]


def test_a_series_that_no_tag_explains_asks_for_its_modality(tmp_path: Path) -> None:
    patient(tmp_path, "WIP 123")
    cases, (problem,) = find(tmp_path)
    assert (cases, problem.severity) == ([], "error")
    assert "its modality is not known" in problem.what
    assert "--modality t1|t1ce|t2|flair" in problem.what
    (case,), _ = find(tmp_path, unnamed=DefaultModalities("t2", "t2"))
    assert case.modalities == ("t2",)
    assert "by --modality" in lines(case)[0]
    patient(tmp_path / "more", "FLAIR")
    (case,), (problem,) = find(tmp_path)
    assert (case.modalities, problem.severity) == (("flair",), "note")


def test_a_modality_without_a_channel_of_the_model_is_said(tmp_path: Path) -> None:
    patient(tmp_path, "T1")
    _, (problem,) = find(tmp_path, unnamed=DefaultModalities(None, "flair", ("flair",)))
    assert "it is t1 by SeriesDescription" in problem.what
    (case,), _ = find(tmp_path, unnamed=DefaultModalities("grey", "grey", ("grey",)))  # type: ignore[arg-type]
    assert case.read().channels == ("grey",)


def test_a_damaged_series_is_an_error_beside_the_case_of_the_others(tmp_path: Path) -> None:
    patient(tmp_path, "T1", "FLAIR")
    (tmp_path / "series1" / "IM0002").unlink()
    (tmp_path / "series1" / "IM0003").unlink()
    (case,), (problem,) = find(tmp_path)
    assert (case.modalities, problem.severity, problem.path.name) == (("flair",), "error", "series1")
    assert "no even grid" in problem.what


@pytest.mark.parametrize(
    ("tags", "modality"),
    [
        ({"SeriesDescription": "t1_mprage_sag_p2_iso_Gd"}, "t1ce"),
        ({"SeriesDescription": "Ax T2 FLAIR Fat Sat"}, "flair"),
        ({"SeriesDescription": "t2_space_dark-fluid_sag_p2_iso"}, "flair"),
        ({"SeriesDescription": "eT1W_3D_TFE_ref_GD"}, "t1ce"),
        ({"SeriesDescription": "AX FSPGR 3D +C"}, "t1ce"),
        ({"SeriesDescription": "AX T1 C+ SE"}, "t1ce"),
        ({"SeriesDescription": "T1 MP-RAGE"}, "t1"),
        ({"SeriesDescription": "sub-01_T1w"}, "t1"),
        ({"SeriesDescription": "POST AX T1"}, "t1ce"),
        ({"SeriesDescription": "AX T1 BRAIN TUMOR"}, "t1"),
        ({"SeriesDescription": "AX T1", "ContrastBolusAgent": "Gadavist"}, "t1ce"),
        ({"SeriesDescription": "AX T1 PRE", "ContrastBolusAgent": "Gadavist"}, "t1"),
        ({"SeriesDescription": "AX T1", "ContrastBolusAgent": "NONE"}, "t1"),
        ({"SeriesDescription": "FLAIR", "ContrastBolusAgent": "Gadavist"}, "flair"),
        ({"SeriesDescription": "T1 FLAIR", "EchoTime": 9, "InversionTime": 920}, "t1"),
        ({"SeriesDescription": "T1 post op", "ContrastBolusAgent": "Dotarem"}, "t1ce"),
        ({"SeriesDescription": "T1 post op"}, None),
        ({"SeriesDescription": "WIP", "ProtocolName": "T2W_TSE"}, "t2"),
        ({"SeriesDescription": "", "AcquisitionContrast": "FLUID_ATTENUATED"}, "flair"),
        ({"SeriesDescription": "x", "EchoTime": 95, "RepetitionTime": 4800, "ScanningSequence": "SE"}, "t2"),
        ({"SeriesDescription": "x", "EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500}, "flair"),
        ({"SeriesDescription": "x", "EchoTime": 12, "RepetitionTime": 550, "ScanningSequence": "SE"}, "t1"),
        ({"SeriesDescription": "x", "EchoTime": 3, "RepetitionTime": 2200, "InversionTime": 900}, "t1"),
        ({"SeriesDescription": "x", "EchoTime": 20, "RepetitionTime": 30, "ScanningSequence": "GR"}, None),
        ({"SeriesDescription": "x", "EchoTime": 90, "RepetitionTime": 6000, "ScanningSequence": "EP"}, None),
        ({"SeriesDescription": "x", "EchoTime": 30, "RepetitionTime": 3000, "ScanningSequence": "SE"}, None),
        ({"SeriesDescription": "T1", "EchoTime": 99, "RepetitionTime": 5000, "ScanningSequence": "SE"}, None),
        ({"SeriesDescription": "FLAIR", "EchoTime": 100, "RepetitionTime": 9000}, "flair"),
    ],
)  # fmt: skip
def test_the_modality_follows_from_words_then_times(
    tmp_path: Path, tags: dict[str, Any], modality: str | None
) -> None:
    ((frame,),) = map(read_frames, Series(voxels(1), tags=tags).write(tmp_path))
    guess = guess_modality(frame.about)
    assert guess.modality == modality, guess.reason
    assert explain_left_out(frame) is None


@pytest.mark.parametrize(
    "tags",
    [
        {"SeriesDescription": "3-plane loc"},
        {"SeriesDescription": "ep2d_diff_b1000_ADC"},
        {"SeriesDescription": "T2* GRE"},
        {"SeriesDescription": "T1 SUB"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"ImageType": ["DERIVED", "PRIMARY", "MIP"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"},
        {"PhotometricInterpretation": "PALETTE COLOR"},
    ],
)
def test_what_shows_none_of_the_modalities_is_left_out_with_the_reason(
    tmp_path: Path, tags: dict[str, Any]
) -> None:
    Series(voxels(2), tags=tags).write(tmp_path)
    cases, (problem,) = find(tmp_path)
    assert (cases, problem.severity) == ([], "note")
    assert "not predicted" in problem.what
