from pathlib import Path

import pytest
from tests.fixtures.sources import discover

from slicewise.data.cases import CaseFiles
from slicewise.data.duplicates import drop_copies
from slicewise.domain.keys import CaseKey

SUFFIXES = ("t1", "t1ce", "t2", "flair", "seg")
SIZE = 300_000


def content(seed: int) -> bytes:
    """Return bytes as volumes of one release have them: one size, and black at either end."""
    return bytes(100_000) + bytes([seed, 1]) * 50_000 + bytes(100_000)


def write_patient(root: Path, name: str, seed: int, suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for number, what in enumerate(suffixes):
        (folder / f"{name}_{what}.nii").write_bytes(content(seed + 50 * number))
    return folder


def test_a_patient_under_two_years_names_is_taken_once(tmp_path: Path) -> None:
    write_patient(tmp_path, "BraTS2021_00006", 1)
    copy = write_patient(tmp_path, "BraTS-GLI-00006-000", 1)
    write_patient(tmp_path, "BraTS2021_00007", 2)
    cases, (problem,) = discover("brats", tmp_path, "brats")
    assert [case.key.case for case in cases] == ["BraTS2021_00006", "BraTS2021_00007"]
    assert (problem.path, problem.severity) == (copy, "note")
    assert problem.what.startswith("BraTS-GLI-00006-000: the same images")
    assert "as BraTS2021_00006, which is kept" in problem.what


@pytest.mark.parametrize("place", [0, 150_000, SIZE - 1])
def test_one_other_byte_anywhere_makes_another_case(tmp_path: Path, place: int) -> None:
    write_patient(tmp_path, "BraTS2021_00006", 1)
    path = write_patient(tmp_path, "BraTS2021_00007", 1) / "BraTS2021_00007_flair.nii"
    changed = bytearray(path.read_bytes())
    changed[place] ^= 1
    path.write_bytes(changed)
    cases, problems = discover("brats", tmp_path, "brats")
    assert (len(cases), problems) == (2, [])


def test_other_modalities_make_another_case(tmp_path: Path) -> None:
    write_patient(tmp_path, "BraTS2021_00006", 1, ("t1", "t2", "seg"))
    write_patient(tmp_path, "BraTS2021_00007", 1, ("t1ce", "flair", "seg"))
    cases, _ = discover("brats", tmp_path, "brats")
    assert len(cases) == 2


def test_slices_under_two_names_are_taken_once(tmp_path: Path) -> None:
    for case, seed in (
        ("TCGA_CS_4941_19960909", 1),
        ("TCGA_CS_4942_19960909", 1),
        ("TCGA_CS_4943_19960909", 2),
    ):
        (tmp_path / case).mkdir()
        for number in range(1, 4):
            (tmp_path / case / f"{case}_{number}.tif").write_bytes(content(seed + number))
            (tmp_path / case / f"{case}_{number}_mask.tif").touch()
    cases, (problem,) = discover("lgg", tmp_path, "lgg")
    assert [case.key.patient for case in cases] == ["TCGA_CS_4941", "TCGA_CS_4943"]
    assert problem.path == tmp_path / "TCGA_CS_4942_19960909"


def test_what_is_empty_or_cannot_be_read_is_left_to_those_who_name_it(tmp_path: Path) -> None:
    empty, absent = tmp_path / "empty.nii", tmp_path / "absent.nii"
    empty.touch()
    cases = [
        CaseFiles(CaseKey("s", name, name), "brats", ("t1",), (path,), (), None, name)
        for name, path in (("a", empty), ("b", empty), ("c", absent), ("d", absent))
    ]
    assert drop_copies(cases) == (cases, [])


def test_different_patients_cost_one_block_each(tmp_path: Path) -> None:
    """They are large, with holes in place of bytes; to read them whole would take minutes."""
    for number in range(20):
        folder = tmp_path / f"BraTS2021_{number:05d}"
        folder.mkdir()
        for what in SUFFIXES:
            path = folder / f"{folder.name}_{what}.nii"
            with path.open("wb") as file:
                file.truncate(1 << 30)
                file.seek(1 << 29)
                file.write(number.to_bytes(2, "little"))
    cases, problems = discover("brats", tmp_path, "brats")
    assert (len(cases), problems) == (20, [])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("BraTS2021_00006", "BraTS-GLI-00007-000"), "(BraTS-GLI-, BraTS2021_)"),
        (("Brats18_2013_21_1", "BraTS20_Training_001"), "(BraTS20_, Brats18_)"),
        (("BraTS2021_00006", "brats2021_00007"), None),
        (("BraTS-GLI-00006-000", "BraTS-MET-00007-000"), None),
        (("BraTS2021_00006", "Phantom_00001"), None),
    ],
)
def test_releases_that_share_patients_are_not_mixed_unsaid(
    tmp_path: Path, names: tuple[str, str], said: str | None
) -> None:
    for seed, name in enumerate(names):
        write_patient(tmp_path, name, seed)
    cases, problems = discover("brats", tmp_path, "brats")
    assert len(cases) == 2
    assert [(problem.path, problem.severity) for problem in problems] == (
        [(tmp_path, "warning")] if said else []
    )
    assert said is None or said in problems[0].what
