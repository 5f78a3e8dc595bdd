"""The scripts that stand for `slicewise run`."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, TINIEST, Pipeline

from slicewise.core.files import read_json

KEYS = [word for word in TINIEST if not word.startswith("scale")]


def run_script(name: str, workspace: Path, *words: str) -> str:
    command = [sys.executable, str(ROOT / "scripts" / name), "--workspace", str(workspace), "--no-input"]
    done = subprocess.run([*command, *words, *KEYS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_goes_on_with_the_patients_that_the_data_script_took(
    trained: Pipeline, tmp_path: Path
) -> None:
    shutil.copytree(trained.workspace / "data" / "raw", tmp_path / "data" / "raw")
    run_script("data/preprocess.py", tmp_path, "--num-patients", "5", "--num-images", "16")
    record = read_json(tmp_path / "pipeline_results.json")
    assert [name for name, step in record["steps"].items() if step["status"] == "completed"] == [
        *("download", "preprocess", "split"),
    ]
    assert "scale.num_patients=5 scale.num_pictures=16" in record["command"]
    counts = record["steps"]["split"]["metrics"]["counts"]
    assert counts["phantom"] == {"train": 3, "val": 1, "test": 1}
    assert sum(counts["phantom_pictures"].values()) == 16

    run_script("run_full_pipeline.py", tmp_path, "--skip-preprocessing", "--until", "seg-warmup")
    record = read_json(tmp_path / "pipeline_results.json")
    assert record["steps"]["preprocess"]["status"] == "skipped"
    assert record["steps"]["train.seg_warmup"]["status"] == "completed"
    assert record["command"].endswith("scale.num_patients=5 scale.num_pictures=16")
