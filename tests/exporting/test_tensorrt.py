"""`--format tensorrt` without TensorRT or a GPU: ONNX, and the command that builds the engine elsewhere."""

import json
import shlex
from pathlib import Path

import pytest
from tests.exporting.test_export import saved
from tests.fixtures.small_model import SIDE

from slicewise.cli.main import main
from slicewise.exporting import tensorrt
from slicewise.models.checkpoint import Checkpoint
from slicewise.runtime.bundle import BUNDLE_NAME


def test_the_graph_and_the_command_of_the_engine_are_written(
    checkpoint: Checkpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensorrt, "find_spec", lambda name: None)
    saved(checkpoint, tmp_path)
    words = ["joint", "--format", "onnx", "tensorrt", "--parity", "4", "--workspace", str(tmp_path)]
    assert main(["export", *words]) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "exports" / "multitask_joint"
    graphs = json.loads((folder / BUNDLE_NAME).read_text())["graphs"]
    assert [*graphs] == ["onnx"]
    assert graphs["onnx"]["parity"]["passed"]
    command = shlex.split(graphs["onnx"]["details"]["trtexec"])
    channels = len(checkpoint.preprocessing.channels)
    assert command[:3] == ["trtexec", "--onnx=model.onnx", "--saveEngine=model.engine"]
    assert f"--minShapes=images:1x{channels}x{SIDE}x{SIDE},presence:1x{channels}" in command
    assert f"--maxShapes=images:32x{channels}x{SIDE}x{SIDE},presence:32x{channels}" in command
    assert "--noTF32" in command
    assert "the package tensorrt is not installed" in out
    assert graphs["onnx"]["details"]["trtexec"] in out
    assert graphs["onnx"]["details"]["trtexec"] in (folder / "README.md").read_text()
    assert not (folder / "model.engine").exists()
