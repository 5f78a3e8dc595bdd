"""Damaged, missing and impossible input: a clear message, the rest goes on, nothing is lost."""

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import Pipeline

from slicewise.core.files import read_json

SHAPE = (40, 40, 12)
SETTINGS = (
    "data=brats",
    "data.name=mine",
    "data.sources.pictures=null",
    "scale.fraction=1.0",
    "preprocessing.image_size=32",
    "runtime.num_workers=1",
)


def write(path: Path, volume: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), path)


def write_patient(root: Path, number: int) -> Path:
    """A ball for a brain with a smaller ball for a tumour, in BraTS layout."""
    rng = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in SHAPE], indexing="ij"))
    brain, tumour = (grid**2).sum(0) < 0.8, (grid**2).sum(0) < 0.1
    folder = root / f"BraTS2021_{number:05d}"
    for modality in ("t1", "t1ce", "t2", "flair"):
        image = np.where(brain, rng.normal(300, 30, SHAPE) + 200 * tumour, 0)
        write(folder / f"{folder.name}_{modality}.nii.gz", image.astype(np.int16))
    write(folder / f"{folder.name}_seg.nii.gz", (tumour * 2).astype(np.uint8))
    return folder


@pytest.fixture
def patients(tmp_path: Path) -> list[Path]:
    return [write_patient(tmp_path / "data", number) for number in range(1, 6)]


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path / "workspace", (*SETTINGS, f"data.sources.volumes.path={tmp_path / 'data'}"))


def file_of(folder: Path, what: str) -> Path:
    return folder / f"{folder.name}_{what}.nii.gz"


def problems(pipeline: Pipeline) -> str:
    reports = (pipeline.workspace / "data" / name / "problems.txt" for name in ("index", "processed"))
    return "\n".join(path.read_text() for path in reports)


def cases_used(pipeline: Pipeline) -> set[str]:
    manifest = read_json(pipeline.workspace / "data" / "processed" / "manifest.json")
    return {entry["case"] for entry in manifest["entries"]}


def test_a_file_name_that_is_not_utf8_is_named(
    pipeline: Pipeline, patients: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (patients[0] / os.fsdecode(b"M\xfcller_t1.nii")).touch()
    for verb in ("plan", "run"):
        assert pipeline.call(verb, "--mode", "data-only") == 1
        assert "M\\udcfcller_t1.nii' is not UTF-8" in capsys.readouterr().err


def test_sound_data_has_no_problem(pipeline: Pipeline, patients: list[Path]) -> None:
    assert pipeline.run("--mode", "data-only") == 0
    assert cases_used(pipeline) == {folder.name for folder in patients}
    assert problems(pipeline).count("No problem was found") == 2


def test_files_that_changed_after_download_are_named(
    pipeline: Pipeline, patients: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """They were checked, labelled and grouped as something else."""
    assert pipeline.run("--until", "download") == 0
    changed, missing = file_of(patients[1], "t2"), file_of(patients[3], "seg")
    shutil.copy(file_of(patients[1], "seg"), changed)
    missing.unlink()

    assert pipeline.run("--until", "preprocess", "--skip-download") == 1
    output = capsys.readouterr().err
    assert str(changed) in output
    assert str(missing) in output
    assert "run download again" in output
    assert pipeline.run("--until", "preprocess") == 0


def turn(folder: Path) -> None:
    cos, sin = np.cos(np.radians(5)), np.sin(np.radians(5))
    affine = np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.int16), affine), file_of(folder, "t2"))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda folder: file_of(folder, "t2").write_bytes(file_of(folder, "t2").read_bytes()[:3000]),
    "mask|voxels where": lambda folder: write(file_of(folder, "seg"), np.zeros((10, 10, 4), np.uint8)),
    "NaN|finite": lambda folder: write(file_of(folder, "flair"), np.full(SHAPE, np.nan, np.float32)),
    "empty": lambda folder: file_of(folder, "t1").write_bytes(b""),
    "compressed with gzip twice": lambda folder: file_of(folder, "t1ce").write_bytes(
        gzip.compress(file_of(folder, "t1ce").read_bytes())
    ),
    "4 volumes in one file; one file per modality is needed: split it": lambda folder: write(
        file_of(folder, "t1"), np.zeros((*SHAPE, 4), np.int16)
    ),
    "rotated by 5.0 degrees relative to": turn,
}
"""Faults of one file of a patient, by the words that one of them is told in."""


def test_damaged_cases_are_named_and_left_out_and_the_others_go_on(
    pipeline: Pipeline, patients: list[Path]
) -> None:
    victims = [write_patient(patients[0].parent, 11 + number) for number in range(len(DAMAGES))]
    for victim, damage in zip(victims, DAMAGES.values(), strict=True):
        damage(victim)
    assert pipeline.run("--until", "preprocess") == 0
    assert cases_used(pipeline) == {folder.name for folder in patients}
    told = problems(pipeline)
    for victim, message in zip(victims, DAMAGES, strict=True):
        assert victim.name in told, message
        assert any(part in told for part in message.split("|")), message


def stored_images(pipeline: Pipeline) -> set[tuple[str, bytes]]:
    paths = (pipeline.workspace / "data" / "slices").glob("*/*/images.npy")
    return {(path.parent.name.rsplit("-", 1)[0], path.read_bytes()) for path in paths}


def test_odd_headers_are_used_and_reported_and_other_axes_are_no_problem(
    pipeline: Pipeline, patients: list[Path]
) -> None:
    assert pipeline.run("--mode", "data-only") == 0
    before = stored_images(pipeline)
    assert len(before) == len(patients)
    image = nib.load(file_of(patients[0], "t1"))
    axes = nib.orientations.axcodes2ornt(("P", "I", "R"))
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), axes))
    file_of(patients[0], "t1").write_bytes(gzip.compress(turned.to_bytes()))
    for what in ("t1", "t1ce", "t2", "flair", "seg"):
        image = nib.load(file_of(patients[1], what))
        image.header.set_xyzt_units("micron")
        file_of(patients[1], what).write_bytes(gzip.compress(image.to_bytes()))
    assert pipeline.run("--mode", "data-only") == 0
    after = stored_images(pipeline)
    assert after == before, "those of the new files are those of the old ones"
    assert len(list((pipeline.workspace / "data" / "slices").glob("*/*/images.npy"))) == len(patients) + 2
    assert "5 x its header gives lengths in micrometres, but voxels of 1 x 1 x 1" in problems(pipeline)
    assert patients[0].name not in problems(pipeline)


def test_a_missing_modality_leaves_its_slot_empty_and_is_reported(
    pipeline: Pipeline, patients: list[Path]
) -> None:
    file_of(patients[0], "t1ce").unlink()
    assert pipeline.run("--mode", "data-only") == 0
    assert patients[0].name in cases_used(pipeline)
    assert "t1ce" in problems(pipeline)
    entry = next((pipeline.workspace / "data" / "slices").glob(f"*/{patients[0].name}-*/entry.json"))
    assert read_json(entry)["presence"] == [True, False, True, True]


def test_an_unlabelled_case_is_left_out_and_reported(pipeline: Pipeline, patients: list[Path]) -> None:
    file_of(patients[4], "seg").unlink()
    assert pipeline.run("--mode", "data-only") == 0
    assert patients[4].name not in cases_used(pipeline)
    assert patients[4].name in problems(pipeline)


def test_a_data_set_without_a_usable_case_stops_at_once_and_doctor_says_it(
    pipeline: Pipeline, patients: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in patients:
        write(file_of(folder, "seg"), np.zeros((10, 10, 4), np.uint8))
    assert pipeline.run("--mode", "data-only") == 1
    output = capsys.readouterr().err
    assert f"brats: none of the 5 cases in {tmp_path / 'data'} can be used" in output
    assert "10 x 10 x 4 voxels where BraTS2021_00001_t1.nii.gz has 40 x 40 x 12" in output
    assert pipeline.call("doctor") == 1
    output = capsys.readouterr().out
    assert "none of the 5 cases" in output
    assert "a run would fail: data" in output


def test_cases_that_cannot_be_read_leave_no_empty_source(
    pipeline: Pipeline, patients: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Their headers are sound, so the check before preprocessing passes them."""
    for folder in patients:
        write(file_of(folder, "seg"), np.full(SHAPE, 0.4, np.float32))
    assert pipeline.run("--mode", "data-only") == 1
    output = capsys.readouterr().err
    assert "brats: not one of 5 cases" in output
    assert "holds 0.4, not the labels 0, 1, 2 and 3 or 4" in output


def test_a_mask_of_the_brain_is_noticed(pipeline: Pipeline, patients: list[Path]) -> None:
    for folder in patients:
        image = np.asanyarray(nib.load(file_of(folder, "t1")).dataobj)
        write(file_of(folder, "seg"), (image > 0).astype(np.uint8))
    assert pipeline.run("--mode", "data-only") == 0
    assert "5 x the mask covers more than 60% of the brain" in problems(pipeline)
    assert pipeline.run("--mode", "data-only", "--force", "preprocess") == 0
    assert "5 x the mask covers more than 60% of the brain" in problems(pipeline), "also of stored slices"


def test_masks_without_a_tumour_are_an_error_before_training(
    pipeline: Pipeline, patients: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in patients:
        write(file_of(folder, "seg"), np.zeros(SHAPE, np.uint8))
    assert pipeline.run("--mode", "data-only") == 1
    assert "brats: not one mask of 5 cases in" in capsys.readouterr().err


def test_a_subset_without_a_tumour_is_an_error_before_training(
    pipeline: Pipeline, patients: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipeline.run("--mode", "data-only") == 0
    split = read_json(pipeline.workspace / "data" / "split" / "split.json")
    (tested,) = split["sources"]["brats"]["test"]
    (folder,) = (folder for folder in patients if folder.name == tested)
    write(file_of(folder, "seg"), np.zeros(SHAPE, np.uint8))
    assert pipeline.run("--mode", "data-only") == 1
    output = capsys.readouterr().err
    assert "not one mask of the 1 patients for test has a pixel of a class" in output
    assert tested in output


def test_labels_mean_what_the_configuration_says(
    pipeline: Pipeline, patients: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """In BraTS-PED 1 is enhancing tumour and 4 edema; nothing is deleted to read it."""
    for folder in patients:
        mask = np.asanyarray(nib.load(file_of(folder, "seg")).dataobj)
        write(file_of(folder, "seg"), np.where(mask > 0, 4, 0).astype(np.uint8))
        marked = np.asanyarray(nib.load(file_of(folder, "seg")).dataobj).copy()
        marked[20, 20, 6] = 3
        write(file_of(folder, "seg"), marked)
    assert pipeline.run("--mode", "data-only") == 1
    assert "data.sources.volumes.labels" in capsys.readouterr().err
    assert pipeline.run("--mode", "data-only", "data.sources.volumes.labels=brats_ped") == 0
    (masks, *_) = sorted((pipeline.workspace / "data" / "slices").glob("*/*/masks.npy"))
    assert {2} <= set(np.unique(np.load(masks))) <= {0, 1, 2}


def test_an_empty_folder_says_what_was_expected(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    assert pipeline.run("--mode", "data-only") == 1
    err = capsys.readouterr().err
    assert str(tmp_path / "data") in err
    assert "BraTS" in err
    assert "Traceback" not in err


def test_a_folder_that_is_not_there_is_named_with_its_key(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipeline.run("--mode", "data-only") == 2
    assert f"data.sources.volumes.path: {tmp_path / 'data'}" in capsys.readouterr().err


def test_too_few_patients_to_split(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        write_patient(tmp_path / "data", number)
    assert pipeline.run("--mode", "data-only") == 1
    assert "too few patients: 2 found" in capsys.readouterr().err


@pytest.mark.usefixtures("patients")
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["model.encoder=resnet43"], "model.encoder=resnet43: unknown; did you mean resnet"),
        (["model.encoder=tu-efficientnet_light0"], "did you mean tu-efficientnet_lite0"),
        (["model.encoder=resnet18", "model.encoder_weights=none_such"], "model.encoder_weights=none_such"),
        (["model.architecture=linknet", "model.encoder=mit_b0"], "model.architecture=linknet"),
        (["runtime.device=mps"], "runtime.device is mps"),
    ],
)
def test_a_model_that_cannot_be_trained_is_named_before_any_work(
    pipeline: Pipeline, words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipeline.with_overrides(*words).run("--until", "train") == 2
    assert named in capsys.readouterr().err
    assert not (pipeline.workspace / "data").exists()
    assert pipeline.with_overrides(*words).run("--mode", "data-only", "--dry-run") == 0


def test_a_full_disk_is_named_before_work_and_loses_nothing(
    pipeline: Pipeline,
    patients: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert pipeline.run("--until", "download") == 0
    usage = SimpleNamespace(total=1 << 40, used=1 << 40, free=4096)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: usage)
        assert pipeline.run("--mode", "data-only") == 1
    err = capsys.readouterr().err
    assert "preprocess needs about" in err
    assert "or move the workspace" in err
    assert pipeline.record["status"] == "failed"
    assert pipeline.run("--mode", "data-only") == 0
    assert pipeline.statuses()["download"] == "reused"


def test_data_that_changes_under_a_finished_workspace_is_noticed(
    pipeline: Pipeline, patients: list[Path]
) -> None:
    assert pipeline.run("--mode", "data-only") == 0
    path = file_of(patients[1], "flair")
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-1] + bytes([content[-1] ^ 1])))
    assert pipeline.run("--mode", "data-only") == 0
    assert "BraTS2021_00002_flair.nii.gz changed" in pipeline.record["steps"]["download"]["reason"]
    assert pipeline.record["steps"]["preprocess"]["metrics"]["num_new"] == 1
    assert pipeline.record["steps"]["preprocess"]["metrics"]["num_reused"] == 4


def test_a_workspace_that_is_a_file_is_wrong_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_text("")
    assert Pipeline(path).run("--dry-run") == 2
    assert "is not a folder" in capsys.readouterr().err
