from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.sources import discover

from slicewise.core.errors import DataError
from slicewise.data.sources.lgg import parse_name, patient_of

REAL = Path(__file__).resolve().parents[3] / "../shared/data/lgg/kaggle_3m"
CASE = "TCGA_CS_4941_19960909"


def write_case(folder: Path, images: list[int], masks: list[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in images:
        (folder / f"{folder.name}_{number}.tif").touch()
    for number in masks:
        (folder / f"{folder.name}_{number}_mask.tif").touch()
    return folder


@given(
    st.from_regex(r"TCGA_[A-Z]{2}_[A-Z0-9]{4}_[0-9]{8}", fullmatch=True), st.integers(0, 999), st.booleans()
)
def test_names_are_read(case: str, number: int, is_mask: bool) -> None:
    name = parse_name(f"{case}_{number}{'_mask' if is_mask else ''}.tif")
    assert name is not None
    assert (name.case, name.number, name.is_mask) == (case, number, is_mask)
    assert patient_of(case) == case[:12]


def test_slices_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    numbers = list(range(1, 13))
    folder = write_case(tmp_path / "kaggle_3m" / CASE, numbers, numbers)
    (tmp_path / "kaggle_3m/data.csv").touch()
    (case,), (table,) = discover("lgg", tmp_path, "lgg")
    assert (table.path.name, table.severity) == ("data.csv", "note")
    assert case.images == tuple(folder / f"{CASE}_{number}.tif" for number in numbers)
    assert case.masks == tuple(folder / f"{CASE}_{number}_mask.tif" for number in numbers)
    assert case.modalities == ("t1", "flair", "t1ce")
    assert (case.key.patient, case.key.case, case.group) == ("TCGA_CS_4941", CASE, "TCGA_CS_4941")


def test_missing_slices_and_masks_are_reported(tmp_path: Path) -> None:
    folder = write_case(tmp_path / CASE, [1, 2, 3, 6], [1, 2, 6, 7])
    (case,), problems = discover("lgg", tmp_path, "lgg")
    assert [path.name for path in case.images] == [f"{CASE}_{number}.tif" for number in (1, 2, 6)]
    assert {(problem.path.name, problem.what, problem.severity) for problem in problems} == {
        (f"{CASE}_3.tif", "a slice without its mask, left out", "error"),
        (f"{CASE}_7_mask.tif", "a mask without its slice, ignored", "error"),
        (folder.name, "slice 4, 5 is missing in the numbering", "warning"),
    }


def test_the_second_copy_in_the_archive_is_ignored(tmp_path: Path) -> None:
    write_case(tmp_path / "kaggle_3m" / CASE, [1], [1])
    fuller = write_case(tmp_path / "lgg-mri-segmentation/kaggle_3m" / CASE, [1, 2], [1, 2])
    (case,), (problem,) = discover("lgg", tmp_path, "lgg")
    assert case.folder == fuller
    assert (problem.path, problem.severity) == (tmp_path / "kaggle_3m" / CASE, "note")


def test_two_scans_of_one_patient_share_a_group(tmp_path: Path) -> None:
    write_case(tmp_path / CASE, [1], [1])
    write_case(tmp_path / "TCGA_CS_4941_19970909", [1], [1])
    cases, _ = discover("lgg", tmp_path, "lgg")
    assert len({case.key for case in cases}) == 2
    assert {case.group for case in cases} == {"TCGA_CS_4941"}


@pytest.mark.parametrize("masks", [[], [9]])
def test_without_a_slice_with_its_mask_the_folder_is_refused(masks: list[int], tmp_path: Path) -> None:
    write_case(tmp_path / CASE, [1, 2], masks)
    with pytest.raises(DataError, match="no slice with a mask; expected folders of the LGG set kaggle_3m"):
        discover("lgg", tmp_path, "lgg")


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="real LGG patients are not beside the checkout")
def test_real_patients_are_found() -> None:
    cases, problems = discover("lgg", REAL, "lgg")
    assert (len(cases), [problem.path.name for problem in problems]) == (45, ["data.csv"])
    assert len({case.group for case in cases}) == 45
    for case in cases:
        numbers = [name.number for path in case.images if (name := parse_name(path.name))]
        assert numbers == list(range(1, len(numbers) + 1))
