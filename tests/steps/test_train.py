"""What decides the weights of a stage, and where the first one begins."""

import shutil
from pathlib import Path

import pytest
import torch
from tests.conftest import Pipeline

from slicewise.config.compose import compose
from slicewise.core.errors import ConfigError
from slicewise.models.checkpoint import load_checkpoint
from slicewise.steps.train import train

BEST = "checkpoints/multitask_{}/best_model.pth"
STILL = (
    "training.iterations_per_epoch=1",
    "stages.seg_warmup.epochs=1",
    *(f"stages.seg_warmup.learning_rates.{part}=1e-30" for part in ("encoder", "decoder")),
    "training.optimizer.weight_decay=0",
)


def _settings(stage: str, *overrides: str) -> dict[str, object]:
    config = compose(list(overrides))
    return dict(train(config, stage).settings(config))


def settings(path: Path) -> dict[str, object]:
    return _settings("seg_warmup", f"training.start_from={path}")


def test_the_content_of_the_file_counts_and_not_its_name(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    first.write_bytes(b"one")
    shutil.copy(first, second)
    before = settings(first)
    assert before == settings(second)
    second.write_bytes(b"two")
    changed = settings(second)
    assert {key for key in changed if changed[key] != before[key]} == {"training.start_from"}


def test_only_the_first_stage_begins_there_and_without_it_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"one")
    assert _settings("joint", f"training.start_from={tmp_path / 'a.pth'}") == _settings("joint")
    assert "training.start_from" not in _settings("seg_warmup")


def test_a_file_that_is_missing_is_named_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.start_from=.*none\.pth cannot be read"):
        settings(tmp_path / "none.pth")


def test_the_first_stage_begins_with_the_weights_of_another_run(trained: Pipeline, tmp_path: Path) -> None:
    other = Pipeline(tmp_path, (*trained.overrides, *STILL))
    for name in ("data", ".slicewise"):
        ignored = shutil.ignore_patterns("lock", "shelf", "partial")
        shutil.copytree(trained.workspace / name, tmp_path / name, ignore=ignored)
    start = trained.workspace / BEST.format("joint")
    assert other.run("--until", "train.seg_warmup", f"training.start_from={start}") == 0
    begun, ended = load_checkpoint(start), load_checkpoint(tmp_path / BEST.format("seg_warmup"))
    learned = [name for name, tensor in begun.weights.items() if "running" not in name and tensor.ndim]
    assert learned
    assert all(torch.equal(begun.weights[name], ended.weights[name]) for name in learned)


def test_to_begin_with_what_the_run_replaces_is_refused(
    trained: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    own = trained.with_overrides(f"training.start_from={trained.workspace / BEST.format('joint')}")
    assert own.call("plan") == 2
    assert own.run() == 2
    assert "is an output of this workspace, which the run replaces; copy it" in capsys.readouterr().err
    assert own.call("plan", "--folds", "2") == 0  # the folds have homes of their own


def test_a_checkpoint_of_another_network_is_refused_by_its_keys(
    trained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = shutil.copy(trained.workspace / BEST.format("joint"), tmp_path)
    other = trained.with_overrides("model.head_hidden=32", f"training.start_from={start}")
    assert other.run("--only", "train.seg_warmup") == 1
    assert "model.head_hidden" in capsys.readouterr().err
    assert trained.run("--only", "train.seg_warmup") == 0
    assert trained.ran() == []
