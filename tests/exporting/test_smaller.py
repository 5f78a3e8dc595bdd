"""Pruned and distilled models: accepted with their figures, or refused without a trace."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TINIEST, Pipeline
from tests.fixtures.processors import needs_avx2

from slicewise.cli.main import main
from slicewise.exporting.folder import export as export_bundle
from slicewise.exporting.folder import write_graphs
from slicewise.exporting.parity import Inputs
from slicewise.inference.pipeline import Pipeline as Predictor
from slicewise.models.checkpoint import load_checkpoint
from slicewise.runtime.bundle import BUNDLE_NAME, read_bundle
from slicewise.workflow.acceptance import Limits, RefusedError
from slicewise.workflow.compression import add_int8
from slicewise.workflow.slices import stored_cases, workspace_of

LENIENT = ("--max-loss", "1", "1", "--for-another-machine", "--parity", "4", "--epochs", "1")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a model of the smallest kind, evaluated."""
    pipeline = Pipeline(tmp_path_factory.mktemp("smaller"), TINIEST)
    assert pipeline.run("--until", "evaluate") == 0
    return pipeline.workspace


def export(workspace: Path, *words: str) -> int:
    return main(["export", "--workspace", str(workspace), *words])


PREDICT = """
import sys
from slicewise.inference.pipeline import Pipeline
pipeline = Pipeline.load(sys.argv[1], backend="torch", device="cpu")
print(pipeline.predict(sys.argv[2]).tumour_probability, pipeline.points.picture.calibrated)
"""


def test_a_pruned_model_with_int8_is_a_checkpoint_and_a_bundle_that_predict_the_same(
    workspace: Path, picture_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(workspace, "--prune", "0.5", "--int8", *LENIENT) == 0
    assert "fine-tuning: 1 epochs of 2 batches, about" in capsys.readouterr().out
    folder = workspace / "exports" / "multitask_joint_pruned"
    content = json.loads((folder / BUNDLE_NAME).read_text())
    assert [*content["graphs"]] == ["onnx", "onnx_int8"]
    assert content["graphs"]["onnx"]["parity"]["passed"]
    assert content["smaller"]["recipe"] == "50% of the channels pruned"
    for judgement in (content["smaller"]["graphs"]["onnx"], content["graphs"]["onnx_int8"]["parity"]):
        assert judgement["accepted"]
        assert judgement["against"] == "the original onnx"
        assert {row["score"] for row in judgement["differences"]} == {"dice_per_patient", "roc_auc"}
    path, original = folder / "best_model.pth", workspace / "checkpoints/multitask_joint/best_model.pth"
    sizes = [sum(each.numel() for each in load_checkpoint(p).weights.values()) for p in (path, original)]
    assert sizes[0] < 0.5 * sizes[1]
    words = [sys.executable, "-c", PREDICT, str(path), str(picture_path)]
    probability = float(subprocess.check_output(words, text=True).split()[0])
    bundle = Predictor.load(path, device="cpu")
    assert bundle.backend == "onnx"
    assert bundle.predict(picture_path).tumour_probability == pytest.approx(probability, abs=1e-5)
    assert "best_model.pth` here" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["onnx", pytest.param("openvino", marks=needs_avx2)])
def test_int8_is_kept_or_leaves_nothing(workspace: Path, tmp_path: Path, name: str) -> None:
    path = workspace / "checkpoints/multitask_joint/best_model.pth"
    pipeline = Predictor.load(path, backend="torch", device="cpu")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    write_graphs(pipeline, [name], bundle)
    with pytest.raises(RefusedError, match=f"{name}_int8 was refused and not written: it loses more than"):
        export_bundle(
            pipeline,
            [name],
            tmp_path / "refused",
            Inputs(count=2),
            finish=partial(add_int8, path, Limits(dice=-2, auc=-2, must_be_faster=False), print),
        )
    assert list(tmp_path.iterdir()) == [bundle]
    add_int8(path, Limits(1, 1, must_be_faster=False), print, bundle)
    graphs = read_bundle(bundle).graphs
    assert graphs[f"{name}_int8"].parity["accepted"]
    assert not graphs[f"{name}_int8"].is_proven  # it predicts only where it is named
    cases = stored_cases(workspace_of(path), pipeline.checkpoints[0].preprocessing, "val")
    before, after = (Predictor.load(bundle, backend=each) for each in (name, f"{name}_int8"))
    for case in cases:
        gap = np.abs(before.predict(case).mask_probability - after.predict(case).mask_probability)
        assert 0 < gap.mean() < 0.05


def test_a_distilled_model_has_the_other_encoder_and_knows_the_patients_of_its_teacher(
    workspace: Path, tmp_path: Path
) -> None:
    words = ("--distill", "tu-test_efficientnet", "--output", str(tmp_path / "out"))
    assert export(workspace, "joint", *words, *LENIENT) == 0
    student = load_checkpoint(tmp_path / "out" / "best_model.pth")
    teacher = load_checkpoint(workspace / "checkpoints/multitask_joint/best_model.pth")
    assert student.model.encoder == "tu-test_efficientnet"
    assert student.tasks == teacher.tasks
    assert student.reference is not None
    assert teacher.reference is not None
    assert student.reference.appearance == teacher.reference.appearance
    thresholds = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert thresholds["made_for"]["weights"] == student.weights_digest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prune", "0.9", "--for-another-machine"], "it loses more than -2 "),
        (["--distill", "resnet50"], "refused and not trained: it is not faster"),
    ],
)
def test_a_refusal_has_the_figures_and_leaves_nothing(
    workspace: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A tiny model, hardly trained, may lose nothing; it cannot gain 2.
    monkeypatch.setattr(Limits, "of", lambda *_: -2.0)
    before = sorted(workspace.rglob("*"))
    assert export(workspace, *words, "--epochs", "1", "--output", str(tmp_path / "out")) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "ms a slice" in error
    assert list(tmp_path.iterdir()) == []
    assert sorted(workspace.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prune", "1"], "a share of the channels between 0 and 1"),
        (["--prune", "0.3", "--format", "torchscript"], "need a --format of onnx, openvino"),
        (["--prune", "0.3", "--epochs", "0"], "--epochs: a number from 1 on"),
        (["--epochs", "3"], "beside --prune or --distill"),
        (["--distill", "tu-test_resnet"], "the model has this encoder"),
        (["--distill", "resnet19"], "resnet19"),
    ],
)
def test_wrong_words_are_explained(
    workspace: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(workspace, *words) in (1, 2)
    assert message in capsys.readouterr().err


def test_another_workspace_is_named(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoints" / "multitask_joint" / "best_model.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes((workspace / "checkpoints/multitask_joint/best_model.pth").read_bytes())
    assert export(tmp_path, "--prune", "0.3") == 2
    assert "has no record of how the stage joint was trained" in capsys.readouterr().err
