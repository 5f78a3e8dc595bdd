"""The benchmark command, and graphs in int8."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.fixtures.small_model import SIDE

from slicewise.cli.main import main
from slicewise.core.errors import UsageError
from slicewise.exporting.int8 import Calibration, quantize_onnx
from slicewise.models.checkpoint import Checkpoint, save_checkpoint
from slicewise.runtime.graphs import Onnx
from slicewise.workflow.acceptance import Limits
from slicewise.workflow.benchmark import find_entrants
from slicewise.workflow.compression import add_int8


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in a workspace without patients, and its bundle in ONNX."""
    path = tmp_path_factory.mktemp("work") / "checkpoints" / "multitask_joint" / "best_model.pth"
    save_checkpoint(path, checkpoint)
    assert main(["export", str(path), "--parity", "2"]) == 0
    return path


@pytest.fixture(scope="module")
def bundle(model: Path) -> Path:
    return model.parents[2] / "exports" / "multitask_joint"


def test_every_graph_is_measured_with_every_batch_size_and_number_of_threads(
    model: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voxels = np.zeros((40, 40, 3), np.int16)
    voxels[6:34, 6:34] = np.random.default_rng(0).integers(100, 900, (28, 28, 3))
    case = tmp_path / "P1_flair.nii.gz"
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, -1.0, 3.0, 1.0])), case)
    files = ("--json", str(tmp_path / "b.json"), "--figure", str(tmp_path / "b.png"), "--case", str(case))
    words = ("--batch-sizes", "1", "3", "--threads", "1", "2", "--repeats", "2")
    assert main(["benchmark", str(model), str(bundle), *words, *files]) == 0
    captured = capsys.readouterr()
    assert "a case: P1" in captured.out
    assert "holds no val patients" in captured.out + captured.err
    content = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    measured = {(row["name"], row["batch_size"], row["num_threads"]) for row in content["rows"]}
    assert measured == {
        (n, batch, threads) for n in ("torch", "onnx") for batch in (1, 3) for threads in (1, 2)
    }
    for row in content["rows"]:
        for times in (row["slice_ms"], row["case_ms"]):
            assert 0 < times["smallest"] <= times["median"] <= times["largest"]
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.format == "PNG"


def test_names_of_entrants_tell_models_apart(model: Path, bundle: Path) -> None:
    assert [each.name for each in find_entrants([model, bundle])] == ["torch", "onnx"]
    assert [each.name for each in find_entrants([model, model.parent / "other" / "best_model.pth"])] == [
        "multitask_joint: torch",
        "other: torch",
    ]


def test_int8_is_a_third_of_the_size_and_predicts_nearly_the_same(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 4, SIDE, SIDE)).astype(np.float32)
    presence = np.ones((8, 4), np.float32)
    target = tmp_path / "model_int8.onnx"
    assert quantize_onnx(bundle / "model.onnx", target, Calibration(images, presence)) == [target.name]
    assert target.stat().st_size < 0.4 * (bundle / "model.onnx").stat().st_size
    before, after = (Onnx(path)(images, presence) for path in (bundle / "model.onnx", target))
    for name, expected in before.items():
        assert np.abs(after[name] - expected).max() < 0.1


def test_int8_needs_the_training_patients(model: Path, bundle: Path) -> None:
    with pytest.raises(UsageError, match="holds no train patients"):
        add_int8(model, Limits(), print, bundle)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "MODEL", "--max-loss", "-1", "0", "--int8"], "--max-loss: two numbers from 0 on"),
        (["benchmark", "nowhere.pth"], "nowhere.pth does not exist"),
        (["benchmark", "MODEL", "--case", "nowhere.nii.gz", "--subset", "none"], "--case nowhere.nii.gz"),
    ],
)
def test_bad_input_is_an_error_with_the_way_out(
    words: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(model) if word == "MODEL" else word for word in words]) in (1, 2)
    assert message in capsys.readouterr().err
