"""A folder that the configuration names is what discovery reads of it: no file less, no file more."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Pipeline
from tests.test_bad_input import SETTINGS, file_of, write_patient

from slicewise.config.compose import compose
from slicewise.workflow.participants import external_inputs


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder of links to the patients' own."""
    folder = tmp_path / "linked"
    folder.mkdir()
    for number in range(1, 4):
        patient = write_patient(tmp_path / "archive", number)
        (folder / patient.name).symlink_to(patient)
    return folder


@pytest.fixture
def pipeline(linked: Path, tmp_path: Path) -> Pipeline:
    pipeline = Pipeline(tmp_path / "workspace", (*SETTINGS, f"data.sources.volumes.path={linked}"))
    assert pipeline.run("--until", "download") == 0
    return pipeline


def reason(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the plan says of the download."""
    capsys.readouterr()
    assert pipeline.call("plan", "--until", "download") == 0
    lines = " ".join(capsys.readouterr().out.split())
    return lines.partition(" download ")[2].partition(" preprocess ")[0]


def test_a_scan_behind_a_link_counts(
    pipeline: Pipeline, linked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reason(pipeline, capsys) == "reuse unchanged"
    name = "BraTS2021_00002"
    scan = file_of(tmp_path / "archive" / name, "t1")
    shutil.copy(file_of(tmp_path / "archive" / "BraTS2021_00003", "t1"), scan)
    changed = f"data.sources.volumes.path: {name}/{scan.name} changed"
    assert reason(pipeline, capsys) == f"run {changed}"
    (linked / name).unlink()
    assert reason(pipeline, capsys).endswith("gone")


def test_what_discovery_passes_over_reruns_nothing(
    pipeline: Pipeline, linked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (linked / ".cache").mkdir()
    (linked / "again").symlink_to(linked)
    for name in ("Thumbs.db", ".cache/t1.nii.gz", "notes.txt"):
        (linked / name).write_text("seen")
    assert reason(pipeline, capsys) == "reuse unchanged"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("data=brats", "data.sources.pictures=null"), {"a.nii", "b.NII.GZ"}),
        (("data=lgg", "data.sources.pictures=null"), {"c.tif"}),
    ],
)
def test_each_layout_has_its_own_files(words: tuple[str, ...], names: set[str], tmp_path: Path) -> None:
    for name in ("a.nii", "b.NII.GZ", "c.tif", "d.png"):
        (tmp_path / name).touch()
    (given,) = external_inputs(compose([*words, f"data.sources.volumes.path={tmp_path}"])).values()
    assert {path.name for path in given.files()} == names


def test_a_folder_without_any_such_file_is_told_by_discovery(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "data" / "picture.png")
    pipeline = Pipeline(tmp_path / "workspace", (*SETTINGS, f"data.sources.volumes.path={tmp_path / 'data'}"))
    assert pipeline.run("--until", "download") == 1
    assert f"{tmp_path / 'data'} holds no case; expected BraTS cases" in capsys.readouterr().err
