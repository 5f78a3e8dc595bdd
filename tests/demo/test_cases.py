from pathlib import Path

from slicewise.demo.cases import FIRST_PATIENT, write_cases
from slicewise.serving.api.cases import find_cases


def test_cases_are_generated_once_and_found_by_modality(tmp_path: Path) -> None:
    (folder,) = write_cases(tmp_path, 1, seed=0)
    assert folder.name == f"Phantom_{FIRST_PATIENT:05d}"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_cases(tmp_path, 1, seed=0)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    cases = find_cases(tmp_path)
    assert list(cases[folder.name]) == ["t1", "t1ce", "t2", "flair"]
    assert cases[folder.name]["t1"].name.endswith("_t1.nii.gz")


def test_no_folder_partial_folders_and_foreign_files_are_no_cases(tmp_path: Path) -> None:
    assert find_cases(tmp_path / "missing") == {}
    (tmp_path / ".partial").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    assert find_cases(tmp_path) == {}
