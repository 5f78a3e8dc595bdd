"""A loss of another package is named in the configuration and trained with."""

from pathlib import Path

import pytest
import torch
from tests.extension.loss import weighted_error
from tests.fixtures.packages import Install
from tests.training.conftest import SMALL, make_set

from slicewise.config.compose import compose
from slicewise.core.errors import ConfigError
from slicewise.models.checkpoint import CHECKPOINT_NAME, load_checkpoint
from slicewise.training.stage import StageResult, train_stage


@pytest.fixture
def _installed(install: Install) -> None:
    install("losses", "sensitivity = tests.extension.loss:sensitivity")


def train(folder: Path, *overrides: str) -> StageResult:
    config = compose([*SMALL, "training.mask_loss={bce:0,dice:0,sensitivity:2}", *overrides])
    sets = make_set(0, num_patients=3, num_pictures=0), make_set(100, num_patients=2, num_pictures=0)
    return train_stage("seg_warmup", config, *sets, folder, None, fingerprint="f")


@pytest.mark.usefixtures("_installed")
def test_it_is_trained_with(tmp_path: Path) -> None:
    result = train(tmp_path, "stages.seg_warmup.epochs=1", "training.iterations_per_epoch=3")
    assert 0 < result.best_metrics["val_mask_loss"] < 2
    assert load_checkpoint(tmp_path / CHECKPOINT_NAME).tasks.names == ("segmentation",)


@pytest.mark.usefixtures("_installed")
def test_it_can_refuse_a_task(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs tasks\.segmentation\.activation=sigmoid"):
        train(tmp_path, "tasks.segmentation.activation=softmax")


def test_it_is_the_formula_of_the_paper() -> None:
    logits, targets = torch.tensor([0.0, 0.0, 20.0]), torch.tensor([1.0, 0.0, 0.0])
    assert weighted_error(logits, targets).item() == pytest.approx(0.05 * 0.25 + 0.95 * (0.25 + 1) / 2)
