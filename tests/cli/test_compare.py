import shutil
from pathlib import Path

import pytest
from tests.conftest import Pipeline

from slicewise.cli.main import main
from slicewise.core.files import read_json


def test_two_runs_are_compared_and_their_settings_too(
    trained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Pipeline(tmp_path / "other", (*trained.overrides, "evaluation.mask_threshold=0.2"))
    for name in ("data", "checkpoints", ".slicewise"):
        shutil.copytree(
            trained.workspace / name, other.workspace / name, ignore=shutil.ignore_patterns("lock")
        )
    assert other.run("--until", "evaluate") == 0
    assert other.ran() == ["evaluate"]
    capsys.readouterr()
    report = tmp_path / "compare.json"
    assert main(["compare", str(trained.workspace), str(other.workspace), "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert "evaluation.mask_threshold: 0.5 -> 0.2" in out
    found = read_json(report)
    assert found["settings"] == {"evaluation.mask_threshold": [0.5, 0.2]}
    assert found["notes"] == []
    (dice,) = [change for change in found["changes"] if change["score"] == "dice"]
    assert dice["difference"]["value"] == pytest.approx(dice["second"] - dice["first"])
    assert f"{dice['first']:.3f}" in out


def test_a_folder_without_a_run_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "holds no finished evaluation" in capsys.readouterr().err
