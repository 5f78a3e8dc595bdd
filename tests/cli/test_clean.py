"""`slicewise clean` says what it keeps, and keeps the slices that belong to it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.conftest import Pipeline
from tests.test_bad_input import SETTINGS, write_patient

STATE = Path("checkpoint/last.pth")


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    for number in range(1, 4):
        write_patient(tmp_path / "data", number)
    pipeline = Pipeline(tmp_path / "workspace", (*SETTINGS, f"data.sources.volumes.path={tmp_path / 'data'}"))
    assert pipeline.run("--until", "preprocess") == 0
    return pipeline


def clean(pipeline: Pipeline, capsys: pytest.CaptureFixture[str], *words: str) -> Sequence[str]:
    capsys.readouterr()
    assert Pipeline(pipeline.workspace, ()).call("clean", *words) == 0
    return capsys.readouterr().out.splitlines()


def slices(pipeline: Pipeline) -> list[Path]:
    return sorted((pipeline.workspace / "data" / "slices").glob("*/*"))


def test_unfinished_work_is_named_and_kept_until_it_is_asked_for(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    state = pipeline.workspace / ".slicewise" / "partial" / "train.joint" / "0123456789abcdef" / STATE
    state.parent.mkdir(parents=True)
    state.write_bytes(bytes(2 << 20))
    kept = "kept the unfinished work of train.joint, 2.0 MiB; --unfinished deletes it"
    assert clean(pipeline, capsys) == ["freed 0.0 MiB", kept]
    assert state.exists()
    assert clean(pipeline, capsys, "--unfinished") == ["freed 2.0 MiB"]
    assert not state.exists()


def test_slices_stay_for_an_output_that_has_not_come_home(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    home, before = pipeline.workspace / "data" / "processed", slices(pipeline)
    shelf = pipeline.workspace / ".slicewise" / "shelf" / "preprocess"
    shelf.mkdir(parents=True, exist_ok=True)
    fingerprint = pipeline.record["steps"]["preprocess"]["fingerprint"]
    (shelf / fingerprint[:16]).mkdir(exist_ok=True)
    home.rename(shelf / fingerprint[:16] / "processed")
    (output,) = clean(pipeline, capsys)[1:]
    assert output.startswith("kept a finished output of preprocess that is not installed yet")
    Pipeline(pipeline.workspace, ()).call("status")
    assert "preprocess is not installed yet; the next run installs it" in capsys.readouterr().out
    assert slices(pipeline) == before
    assert pipeline.run("--until", "preprocess") == 0
    assert pipeline.ran() == []


def test_slices_of_an_unfinished_preprocessing_stay_with_it(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    before = slices(pipeline)
    (pipeline.workspace / "data" / "processed" / ".receipt.json").unlink()
    (pipeline.workspace / ".slicewise" / "partial" / "preprocess" / "0123456789abcdef").mkdir(parents=True)
    clean(pipeline, capsys)
    assert slices(pipeline) == before
    clean(pipeline, capsys, "--unfinished")
    assert slices(pipeline) == []
