"""The script of a user, and a backend of another package."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import ROOT
from tests.fixtures.packages import Install
from tests.inference.pipelines import pipeline

from slicewise.core.errors import ConfigError
from slicewise.inference.pipeline import Pipeline
from slicewise.models.checkpoint import Checkpoint, save_checkpoint

HERE = Path(__file__).parent


def test_a_script_predicts_a_folder_and_an_array(
    checkpoint: Checkpoint, volume_path: Path, picture_path: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "best_model.pth", checkpoint)
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "P1_flair.nii.gz").write_bytes(volume_path.read_bytes())
    (folder / "photo.png").write_bytes(picture_path.read_bytes())
    words = [sys.executable, HERE / "predict_script.py", tmp_path / "best_model.pth", folder, out]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True, cwd=ROOT)
    assert "was not evaluated" in done.stdout
    with (out / "table.csv").open() as stream:
        masks = {row["case"]: row["mask"] for row in csv.DictReader(stream)}
    assert masks == {"P1": "P1_mask.nii.gz", "photo": "photo_mask.png"}
    assert all((out / mask).is_file() for mask in masks.values())


@pytest.fixture
def installed(install: Install) -> None:
    install("backends", "bf16 = backend:bf16")


@pytest.mark.usefixtures("installed")
def test_a_backend_of_another_package_runs_the_model(
    checkpoint: Checkpoint, picture_path: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "best_model.pth", checkpoint)
    plain: Any = {"flips": False, "rotation": 0.0, "mask_smoothing": 0.0, "class_smoothing": 0.0}
    other = Pipeline.load(tmp_path / "best_model.pth", device="cpu", backend="bf16", **plain)
    expected, found = (each.predict(picture_path) for each in (pipeline(checkpoint), other))
    np.testing.assert_allclose(found.mask_probability, expected.mask_probability, atol=0.03)
    np.testing.assert_allclose(found.class_probability, expected.class_probability, atol=0.03)
    assert not np.array_equal(found.mask_probability, expected.mask_probability)


def test_an_unknown_backend_names_the_known_ones(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best_model.pth", checkpoint)
    with pytest.raises(ConfigError, match=r"'mine' is unknown.*torch"):
        Pipeline.load(tmp_path / "best_model.pth", device="cpu", backend="mine")
