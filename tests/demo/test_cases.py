from pathlib import Path

from slicewise.data.inputs import DefaultModalities, find_inputs
from slicewise.demo.lifecycle import FIRST_PATIENT, write_cases


def test_cases_are_generated_once_and_found_by_modality(tmp_path: Path) -> None:
    (folder,) = write_cases(tmp_path, 1, seed=0)
    assert folder.name == f"Phantom_{FIRST_PATIENT:05d}"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_cases(tmp_path, 1, seed=0)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    (case,), _ = find_inputs([tmp_path], DefaultModalities(None, "flair"))
    assert (case.key.case, case.modalities) == (folder.name, ("t1", "t1ce", "t2", "flair"))
