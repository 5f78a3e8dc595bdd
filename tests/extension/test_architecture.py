"""An architecture of another package is chosen, trained, saved, loaded again and used for prediction."""

from pathlib import Path

import pytest
import torch
from tests.conftest import TINIEST
from tests.extension.architecture import Encoder
from tests.fixtures.packages import Install

from slicewise.cli.main import main
from slicewise.models.checkpoint import load_checkpoint

OVERRIDES = (
    *TINIEST,
    "data.sources.pictures=null",
    "model.architecture=two_levels",
    "model.encoder=null",
    "model.encoder_weights=null",
)


@pytest.fixture
def _installed(install: Install) -> None:
    install("architectures", "two_levels = tests.extension.architecture:two_levels")


@pytest.mark.usefixtures("_installed")
def test_it_is_trained_saved_and_used_for_prediction(tmp_path: Path) -> None:
    work = ["--workspace", str(tmp_path / "work")]
    assert main(["run", "--no-input", *work, "--until", "train.seg_warmup", *OVERRIDES]) == 0

    path = tmp_path / "work" / "checkpoints" / "multitask_seg_warmup" / "best_model.pth"
    checkpoint = load_checkpoint(path)
    assert isinstance(checkpoint.build().encoder, Encoder)
    assert checkpoint.build_program(torch.device("cpu")) is not None

    case = next((tmp_path / "work" / "data" / "raw").glob("*/*/*_flair.nii.gz"))
    output = tmp_path / "out"
    assert main(["predict", str(case), "--checkpoint", str(path), "--out", str(output)]) == 0
    assert [*output.rglob("*.nii.gz")]
