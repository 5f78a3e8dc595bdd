import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import Pipeline, Reevaluated

from slicewise.cli.main import main
from slicewise.core.files import read_json
from slicewise.engine.receipt import Receipt


def test_two_runs_are_compared_and_their_settings_too(
    trained: Pipeline, reevaluated: Reevaluated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "compare.json"
    folders = [str(pipeline.workspace) for pipeline in (trained, reevaluated.pipeline)]
    assert main(["compare", *folders, "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert "evaluation.mask_threshold: 0.5 -> 0.2" in out
    found = read_json(report)
    assert found["settings"] == {
        "evaluation.mask_threshold": [0.5, 0.2],
        "evaluation.min_choice_patients": [8, 1],
        "evaluation.modality_subsets": [False, True],
    }
    assert found["notes"] == []
    first, second, gain = (row["value"] for row in found["rows"] if row["score"] == "dice_per_patient")
    assert gain == pytest.approx(second - first)
    assert f"{first:.3f}" in out


def test_without_receipts_the_settings_are_unknown(
    trained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("metrics.json", "patients.csv", "slices.csv"):
        content = (trained.workspace / "results" / "multitask_evaluation" / name).read_bytes()
        (tmp_path / name).write_bytes(content)
    assert main(["compare", str(trained.workspace), str(tmp_path)]) == 0
    assert "settings: unknown" in capsys.readouterr().out


def test_a_folder_without_a_run_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "holds no finished evaluation" in capsys.readouterr().err


def test_settings_of_a_later_run_are_not_taken_for_those_of_the_evaluation(
    trained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = tmp_path / "later"
    for home in ("checkpoints", "results/multitask_evaluation", "data/split", "data/processed", "data/index"):
        shutil.copytree(trained.workspace / home, later / home)
    assert main(["compare", str(trained.workspace), str(later)]) == 0
    assert "settings: the same in both" in capsys.readouterr().out
    joint = Receipt.read(later / "checkpoints" / "multitask_joint")
    assert joint is not None
    other = replace(joint.identity, settings={**joint.identity.settings, "seed": 12345})
    replace(joint, identity=other).write(later / "checkpoints" / "multitask_joint")
    assert main(["compare", str(trained.workspace), str(later)]) == 0
    assert "settings: unknown" in capsys.readouterr().out
