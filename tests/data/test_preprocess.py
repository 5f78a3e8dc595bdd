from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.imaging.ellipsoid import images, settings, tumour, write_nifti

from slicewise.core.errors import WorkspaceError
from slicewise.core.hashing import HashCache
from slicewise.data.cases import CaseFiles
from slicewise.data.preprocess import PreprocessReport, batch_jobs, estimate_bytes, preprocess_cases
from slicewise.data.store import SliceStore
from slicewise.domain.keys import CaseKey


def volume_case(folder: Path, name: str, seed: int = 0) -> CaseFiles:
    image = write_nifti(folder / f"{name}_flair.nii.gz", images(seed)[3])
    mask = write_nifti(folder / f"{name}_seg.nii.gz", tumour())
    return CaseFiles(CaseKey("toy", name, name), "brats", ("flair",), (image,), (mask,), None, name)


def picture_case(folder: Path, number: int) -> CaseFiles:
    path = folder / f"picture{number}.png"
    cv2.imwrite(str(path), images(number)[3, 10].clip(0, 255).astype(np.uint8))
    key = CaseKey("pictures", f"picture{number}", f"picture{number}")
    return CaseFiles(key, "class_folders", ("flair",), (path,), (), number % 2, f"family{number // 2}")


@pytest.fixture
def cases(tmp_path: Path) -> list[CaseFiles]:
    folder = tmp_path / "raw"
    folder.mkdir()
    return [
        volume_case(folder, "v1", 1),
        *(picture_case(folder, n) for n in range(4)),
        volume_case(folder, "v2", 2),
    ]


def run(cases: list[CaseFiles], root: Path, num_workers: int = 1, **changes: object) -> PreprocessReport:
    return preprocess_cases(
        cases,
        SliceStore(root),
        settings(**changes),
        num_workers=num_workers,
        max_worker_memory_mib=1,
        hash_cache=HashCache(),
    )


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_every_case_becomes_an_entry_in_order(cases: list[CaseFiles], tmp_path: Path) -> None:
    report = run(cases, tmp_path / "slices")
    assert [entry.key for entry in report.entries] == [case.key for case in cases]
    assert [entry.group for entry in report.entries] == [case.group for case in cases]
    assert (len(report.new), report.num_reused, report.problems) == (6, 0, ())
    stored = SliceStore(tmp_path / "slices").open(report.entries[0].entry)
    assert len(stored.labels) == len(report.entries[0].indices)
    assert stored.masks.any()


def test_a_second_run_computes_nothing(cases: list[CaseFiles], tmp_path: Path) -> None:
    run(cases, tmp_path / "slices")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "slices").rglob("*")}
    report = run(cases, tmp_path / "slices")
    assert (len(report.new), report.num_reused) == (0, 6)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "slices").rglob("*")} == before


def test_a_bigger_run_adds_and_a_changed_file_is_redone(cases: list[CaseFiles], tmp_path: Path) -> None:
    run(cases[:3], tmp_path / "slices")
    assert len(run(cases, tmp_path / "slices").new) == 3
    write_nifti(cases[0].masks[0], np.where(tumour() == 3, 1, tumour()).astype(np.uint8))
    report = run(cases, tmp_path / "slices")
    assert [key.case for key in report.new] == ["v1"]


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "entry.json"])
def test_a_damaged_entry_is_made_again_with_the_same_content(
    cases: list[CaseFiles], tmp_path: Path, name: str
) -> None:
    root = tmp_path / "slices"
    run(cases, root)
    before = contents(root)
    path = next(root.glob(f"*/v2-*/{name}"))
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    report = run(cases, root)
    assert [key.case for key in report.new] == ["v2"]
    assert contents(root) == before


def test_another_preprocessing_keeps_the_old_slices(cases: list[CaseFiles], tmp_path: Path) -> None:
    run(cases, tmp_path / "slices")
    assert len(run(cases, tmp_path / "slices", image_size=32).new) == 6
    assert run(cases, tmp_path / "slices").num_reused == 6


def test_the_number_of_workers_changes_nothing(cases: list[CaseFiles], tmp_path: Path) -> None:
    alone, together = run(cases, tmp_path / "one", 1), run(cases, tmp_path / "two", 2)
    assert [case.entry for case in alone.entries] == [case.entry for case in together.entries]
    assert (alone.problems, alone.new) == (together.problems, together.new)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_moved_files_are_the_same_case(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    first = run([volume_case(tmp_path / "here", "v")], tmp_path / "slices")
    second = run([volume_case(tmp_path / "there", "v")], tmp_path / "slices")
    assert second.num_reused == 1
    assert first.entries[0].entry == second.entries[0].entry


def test_a_damaged_case_is_reported_and_left_out(cases: list[CaseFiles], tmp_path: Path) -> None:
    whole = cases[0].images[0].read_bytes()
    cases[0].images[0].write_bytes(whole[: len(whole) // 2])
    cases[2].images[0].write_bytes(b"not a picture")
    report = run(cases, tmp_path / "slices")
    assert [entry.key.case for entry in report.entries] == ["picture0", "picture2", "picture3", "v2"]
    assert len(report.problems) == 2
    assert report.problems[0].severity == "error"
    assert "truncated" in report.problems[0].what
    assert run(cases, tmp_path / "slices").num_reused == 4


def test_a_full_disk_is_found_before_the_work(
    cases: list[CaseFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(WorkspaceError, match="preprocessing 6 cases needs about"):
        run(cases, tmp_path / "slices")
    assert not (tmp_path / "slices").exists()


def test_pictures_travel_together_and_volumes_alone(cases: list[CaseFiles]) -> None:
    pictures = [(cases[1], str(number)) for number in range(70)]
    volumes = [(cases[0], "v"), (cases[5], "w")]
    assert [len(job) for job in batch_jobs([*pictures, *volumes])] == [32, 32, 6, 1, 1]
    assert [entry for job in batch_jobs(pictures) for _, entry in job] == [entry for _, entry in pictures]


def test_the_estimate_covers_what_is_written(cases: list[CaseFiles], tmp_path: Path) -> None:
    estimate = sum(estimate_bytes(case, settings()) for case in cases)
    run(cases, tmp_path / "slices")
    assert sum(len(data) for data in contents(tmp_path / "slices").values()) < estimate


def test_nan_outside_the_brain_is_background_and_a_warning(cases: list[CaseFiles], tmp_path: Path) -> None:
    image = images(1)[3].astype(np.float32)
    image[image == 0] = np.nan
    write_nifti(cases[0].images[0], image)
    report = run(cases[:1], tmp_path / "slices")
    (problem,) = report.problems
    assert (len(report.entries), problem.severity) == (1, "warning")
    assert "v1_flair.nii.gz" in problem.what
    assert "are NaN or infinite and count as background" in problem.what


def test_a_mask_with_nan_is_refused(cases: list[CaseFiles], tmp_path: Path) -> None:
    labels = tumour().astype(np.float32)
    labels[0, 0, 0] = np.nan
    write_nifti(cases[0].masks[0], labels)
    (problem,) = run(cases[:1], tmp_path / "slices").problems
    assert (problem.severity, "holds NaN or infinity, which are no labels" in problem.what) == ("error", True)
