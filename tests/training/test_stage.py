import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.conftest import validated
from torch import Tensor

from slicewise.compute.device import choose_precision
from slicewise.config.schema import Config
from slicewise.core.errors import CheckpointError, TrainingError
from slicewise.data.loading.dataset import Batch, Indices, SliceDataset
from slicewise.models.checkpoint import Checkpoint, load_checkpoint
from slicewise.training.learner import Learner, make_fabric
from slicewise.training.model_selection import validate
from slicewise.training.stage import StageResult, train_stage
from slicewise.training.state import load_state

MakeConfig = Callable[..., Config]
TrainOne = Callable[..., StageResult]
GoOn = Callable[..., StageResult]

SHORT = ("stages.joint.epochs=2", "training.iterations_per_epoch=4")


class PowerFailureError(Exception):
    pass


class PullsThePlug(SliceDataset):
    """A data set whose reading stops after so many training batches."""

    def __init__(self, whole: SliceDataset, after: int) -> None:
        super().__init__({"volumes": whole.cases[:5], "pictures": whole.cases[5:]})
        self.left = after

    def gather(self, indices: Indices) -> Batch:
        self.left -= 1
        if self.left < 0:
            raise PowerFailureError
        return super().gather(indices)


def weights(out_dir: Path) -> dict[str, Tensor]:
    return load_checkpoint(out_dir / "best_model.pth").weights


def same(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def table(out_dir: Path) -> list[dict[str, str]]:
    with (out_dir / "history.csv").open() as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


@dataclass(frozen=True)
class Trained:
    """The folder of a short training from random weights, and what it returned."""

    folder: Path
    result: StageResult

    @property
    def start(self) -> Checkpoint:
        return load_checkpoint(self.folder / "best_model.pth")


@pytest.fixture(scope="module")
def short(train_one: TrainOne, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("short")
    return Trained(folder, train_one(folder, *SHORT))


@pytest.fixture(scope="module")
def whole(train_one: TrainOne, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of a short training with more overrides that nothing has interrupted."""

    @cache
    def train(*overrides: str) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        train_one(folder, *SHORT, *overrides)
        return folder

    return train


def test_training_is_repeatable_to_the_bit(train_one: TrainOne, short: Trained, tmp_path: Path) -> None:
    train_one(tmp_path, *SHORT)

    assert same(tmp_path, short.folder)
    assert table(tmp_path) == table(short.folder)


@pytest.mark.parametrize("after", [3, 4, 5, 8], ids=lambda after: f"after {after} of 12 batches")
@pytest.mark.parametrize(
    "overrides",
    [
        ("training.precise_bn=2",),
        (
            "training.ema_decay=0.9",
            "training.precise_bn=2",
            "training.accumulate=2",
            "training.optimizer.name=sgd",
        ),
    ],
    ids=["adamw+precise_bn", "sgd+ema+accumulate+precise_bn"],
)
def test_a_resumed_stage_equals_an_uninterrupted_one_to_the_bit(
    train_one: TrainOne,
    whole: Callable[..., Path],
    train_set: SliceDataset,
    tmp_path: Path,
    after: int,
    overrides: tuple[str, ...],
) -> None:
    often = "runtime.checkpoint_seconds=1e-6"
    with pytest.raises(PowerFailureError):
        train_one(tmp_path / "cut", *SHORT, *overrides, often, data=PullsThePlug(train_set, after))
    result = train_one(tmp_path / "cut", *SHORT, *overrides)

    assert result.resumed_from is not None
    assert result.epochs_run == 2
    assert same(whole(*overrides), tmp_path / "cut")
    assert table(whole(*overrides)) == table(tmp_path / "cut")


def test_without_mid_epoch_saves_it_goes_on_after_the_last_whole_epoch(
    train_one: TrainOne, short: Trained, train_set: SliceDataset, tmp_path: Path
) -> None:
    with pytest.raises(PowerFailureError):
        train_one(tmp_path, *SHORT, data=PullsThePlug(train_set, 6))
    result = train_one(tmp_path, *SHORT)

    assert result.resumed_from == "epoch 2, batch 0"
    assert same(short.folder, tmp_path)


def test_a_finished_stage_is_not_trained_again(
    train_one: TrainOne, short: Trained, train_set: SliceDataset
) -> None:
    again = train_one(short.folder, *SHORT, data=PullsThePlug(train_set, 0))

    assert again.best_metrics == short.result.best_metrics
    assert again.epochs_run == 2


def test_another_fingerprint_starts_from_the_beginning(
    make_config: MakeConfig, train_set: SliceDataset, val_set: SliceDataset, tmp_path: Path
) -> None:
    config = make_config("stages.joint.epochs=1", "training.iterations_per_epoch=2")

    def train(fingerprint: str) -> str | None:
        return train_stage(
            "joint", config, train_set, val_set, tmp_path, None, fingerprint=fingerprint
        ).resumed_from

    assert train("a") is None
    assert train("b") is None
    assert train("b") is not None


def test_a_damaged_state_is_named(train_one: TrainOne, tmp_path: Path) -> None:
    (tmp_path / "last.pth").write_bytes(b"half a file")

    with pytest.raises(CheckpointError, match=r"last\.pth is damaged"):
        train_one(tmp_path, *SHORT)


def test_stages_follow_each_other_and_frozen_parts_keep_every_bit(
    train_one: TrainOne, tmp_path: Path
) -> None:
    kept = [f"stages.{stage}.monitor=last" for stage in ("seg_warmup", "cls_head", "joint")]
    quick = ("training.iterations_per_epoch=3", *kept)
    train_one(tmp_path / "1", *quick, "stages.seg_warmup.epochs=1", name="seg_warmup")
    first = load_checkpoint(tmp_path / "1" / "best_model.pth")
    train_one(tmp_path / "2", *quick, "stages.cls_head.epochs=2", name="cls_head", start=first)
    second = load_checkpoint(tmp_path / "2" / "best_model.pth")

    for name, tensor in first.weights.items():
        changed = not torch.equal(tensor, second.weights[name])
        assert changed == name.startswith("class_head."), name
    train_one(tmp_path / "3", *quick, "stages.joint.epochs=1", name="joint", start=second)
    third = load_checkpoint(tmp_path / "3" / "best_model.pth")
    learned = {n.split(".")[0] for n in third.weights if not torch.equal(third.weights[n], second.weights[n])}
    assert learned >= {"encoder", "decoder", "mask_head", "class_head"}


@pytest.mark.parametrize("is_frozen", [True, False])
def test_joint_keeps_the_statistics_of_its_start_and_learns_its_own_without_one(
    train_one: TrainOne, tmp_path: Path, is_frozen: bool
) -> None:
    once = (*SHORT, "stages.joint.monitor=last", f"stages.joint.frozen_statistics={str(is_frozen).lower()}")
    train_one(tmp_path / "1", *once)
    start = load_checkpoint(tmp_path / "1" / "best_model.pth")
    train_one(tmp_path / "2", *once, start=start)
    first, second = weights(tmp_path / "1"), weights(tmp_path / "2")
    statistics = [name for name in first if name.endswith(("running_mean", "running_var"))]

    assert all(torch.equal(first[name], second[name]) for name in statistics) == is_frozen
    assert any(first[name].abs().max() > 0 for name in statistics if name.endswith("mean"))
    assert not torch.equal(first["mask_head.0.weight"], second["mask_head.0.weight"])


@pytest.mark.parametrize(("monitor", "is_kept"), [("dice+auc", True), ("last", False)])
def test_a_stage_that_does_harm_leaves_the_network_it_began_with(
    train_one: TrainOne, tmp_path: Path, monitor: str, is_kept: bool
) -> None:
    rates = [f"stages.joint.learning_rates.{part}=5e-3" for part in ("encoder", "decoder", "head")]
    good = train_one(tmp_path / "good", *rates, "stages.joint.epochs=2", "training.iterations_per_epoch=25")
    start = load_checkpoint(tmp_path / "good" / "best_model.pth")

    harmful = [rate.replace("5e-3", "3.0") for rate in rates] + ["stages.joint.frozen_statistics=false"]
    bad = train_one(tmp_path / "bad", *harmful, *SHORT, f"stages.joint.monitor={monitor}", start=start)

    assert (bad.best_epoch == 0) == is_kept
    assert bad.epochs_run == (1 if is_kept else 2)  # the second half is left out where the first did harm
    assert same(tmp_path / "bad", tmp_path / "good") == is_kept
    metrics = load_checkpoint(tmp_path / "bad" / "best_model.pth").metrics
    assert (metrics["dice"] == pytest.approx(good.best_metrics["dice"])) == is_kept
    assert (tmp_path / "bad" / "curves.png").exists()


@pytest.fixture
def go_on(
    train_one: TrainOne,
    short: Trained,
    val_set: SliceDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> GoOn:
    """Train some epochs from the short training on, with these figures of start and epochs."""

    def train(*figures: dict[str, float]) -> StageResult:
        measured = iter(validated(val_set, **metrics) for metrics in figures)
        monkeypatch.setattr("slicewise.training.trainer.validate", lambda *_: next(measured))
        epochs = f"stages.joint.epochs={len(figures) - 1}"
        return train_one(tmp_path, *SHORT, epochs, start=short.start)

    return train


@pytest.mark.parametrize(("lost", "is_kept"), [(0.2, True), (0.01, False), (-0.1, False)])
def test_the_start_is_kept_where_one_task_became_significantly_worse_and_not_otherwise(
    go_on: GoOn, short: Trained, tmp_path: Path, lost: float, is_kept: bool
) -> None:
    result = go_on({"dice": 0.6, "auc": 0.6}, {"dice": 0.6 - lost, "auc": 0.95})

    assert (result.best_epoch == 0) == is_kept
    assert same(tmp_path, short.folder) == is_kept


@pytest.mark.parametrize(
    ("dice", "kept"),
    [
        ((0.8, 0.79, 0.78), 3),
        ((0.8, 0.4, 0.79), 3),
        ((0.8, 0.4, 0.5), 1),
        ((0.8, 0.78, 0.5), 2),
        ((0.8, 0.77, 0.74), 2),  # compared with the top score, not with the epoch before
        ((0.4, 0.7, 0.9), 3),
    ],
)
def test_the_latest_epoch_that_is_not_significantly_worse_than_the_top_one_is_kept(
    go_on: GoOn, tmp_path: Path, dice: tuple[float, ...], kept: int
) -> None:
    result = go_on(*({"dice": value, "auc": 0.5} for value in (0.3, *dice)))

    assert result.best_epoch == kept
    assert result.best_metrics["dice"] == dice[kept - 1]
    assert load_checkpoint(tmp_path / "best_model.pth").metrics["dice"] == dice[kept - 1]


def test_the_start_is_remembered_by_what_its_own_network_answers(
    train_one: TrainOne, short: Trained, make_config: MakeConfig, val_set: SliceDataset, tmp_path: Path
) -> None:
    config, start = make_config(), short.start
    train_one(tmp_path, *SHORT, start=start)
    found = load_state(tmp_path / "last.pth", "f")
    fabric = make_fabric(config.runtime, choose_precision(config.training.precision, "cpu").precision)
    measured = validate(fabric, start.build(), val_set, config.stages["joint"], config.training)

    assert found is not None
    assert found[0].start_metrics["dice"] == pytest.approx(measured.metrics["dice"], abs=1e-4)


def test_a_head_that_nobody_has_trained_is_never_kept(
    train_one: TrainOne, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no epoch of its first stage looks better than the random weights it began with."""
    train_one(tmp_path / "1", *SHORT, "stages.seg_warmup.epochs=1", name="seg_warmup")
    start = load_checkpoint(tmp_path / "1" / "best_model.pth")
    monkeypatch.setattr("slicewise.training.model_selection.monitor_score", lambda metrics, monitor: 0.5)
    result = train_one(tmp_path / "2", *SHORT, "stages.cls_head.epochs=2", name="cls_head", start=start)
    assert result.best_epoch == 2
    assert result.start_metrics == {}


def test_the_network_learns_both_tasks_better_than_the_majority(train_one: TrainOne, tmp_path: Path) -> None:
    rates = [f"stages.joint.learning_rates.{part}=5e-3" for part in ("encoder", "decoder", "head")]
    result = train_one(tmp_path, *rates, "stages.joint.epochs=3", "training.iterations_per_epoch=25")

    assert result.best_metrics["dice"] > 0.7
    assert result.best_metrics["auc"] > 0.9
    assert result.best_metrics["auc_pictures"] > 0.7
    assert result.images_per_second > 0


@pytest.mark.usefixtures("drawn")
def test_the_folder_holds_what_people_look_for(train_one: TrainOne, tmp_path: Path) -> None:
    train_one(tmp_path, *SHORT, "training.sample_predictions=3")

    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        "best_model.pth",
        "last.pth",
        "history.csv",
        "curves.png",
        "samples/epoch_001.png",
        "samples/epoch_002.png",
    }
    for name in ("samples/epoch_001.png", "curves.png"):
        with Image.open(tmp_path / name) as image:
            assert np.ptp(np.asarray(image)) > 200
    assert [row["epoch"] for row in table(tmp_path)] == ["1", "2"]


def test_the_checkpoint_says_what_it_is(short: Trained, make_config: MakeConfig) -> None:
    config = make_config(*SHORT)
    checkpoint = load_checkpoint(short.folder / "best_model.pth", config.model)

    assert (checkpoint.stage, checkpoint.fingerprint) == ("joint", "f")
    assert checkpoint.metrics == short.result.best_metrics
    assert checkpoint.preprocessing == config.preprocessing
    assert (checkpoint.data_name, checkpoint.synthetic) == ("phantom", True)
    assert checkpoint.slot == config.data.slot


def test_patience_ends_a_stage_that_does_not_improve(
    train_one: TrainOne, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = ("encoder", "decoder", "head")
    rates = [f"stages.joint.learning_rates.{part}=1e-30" for part in still]
    result = train_one(
        tmp_path,
        *rates,
        "stages.joint.epochs=9",
        "stages.joint.patience=2",
        "training.iterations_per_epoch=1",
        "training.optimizer.weight_decay=0",
        "training.augmentation.noise=0",
    )

    assert result.epochs_run < 9
    assert result.stop_reason == "no higher score"
    *_, last, stop = capsys.readouterr().out.splitlines()
    assert re.match(r"  joint \d/9  train_loss .*  dice \d.*  auc \d.*  lr \d.\de-\d+  \d+ images/s", last)
    assert stop == f"  joint stops after {result.epochs_run} of 9 epochs: no higher score"


def test_the_last_epoch_is_kept_where_nothing_is_to_choose(train_one: TrainOne, tmp_path: Path) -> None:
    rates = [f"stages.joint.learning_rates.{part}=1e-30" for part in ("encoder", "decoder", "head")]
    still = (*SHORT, *rates, "training.optimizer.weight_decay=0", "stages.joint.epochs=3")
    kept: dict[str, int] = {}
    for monitor in ("dice", "last"):
        folder = tmp_path / monitor
        result = train_one(folder, *still, f"stages.joint.monitor={monitor}", "stages.joint.patience=1")
        kept[monitor] = result.epochs_run
        history = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
        assert float(history[-1]["score"]) <= 1
    assert kept["dice"] < kept["last"] == 3  # patience looks at improvement, and "last" is always one


def test_a_loss_that_is_no_number_ends_with_the_way_out(
    train_one: TrainOne, train_set: SliceDataset, tmp_path: Path
) -> None:
    class Broken(PullsThePlug):
        def gather(self, indices: Indices) -> Batch:
            batch = super().gather(indices)
            batch.images[0, 0, 0, 0] = torch.nan
            return batch

    with pytest.raises(TrainingError, match=r"stages\.joint\.learning_rates"):
        train_one(tmp_path, *SHORT, data=Broken(train_set, 99))


@pytest.mark.parametrize("stage", ["seg_warmup", "cls_head", "joint"])
@pytest.mark.parametrize("ema_decay", [0, 0.9])
def test_divergence_in_the_last_batch_of_an_epoch_keeps_nothing(
    train_one: TrainOne, tmp_path: Path, stage: str, ema_decay: float
) -> None:
    """The one loss of the epoch was taken before the step that spoils the network."""
    rates = [f"stages.{stage}.learning_rates.{part}=1e25" for part in ("encoder", "decoder", "head")]
    once = ("training.iterations_per_epoch=1", f"training.ema_decay={ema_decay}")

    with pytest.raises(TrainingError, match=rf"batch 1; lower stages\.{stage}\.learning_rates"):
        train_one(tmp_path, *rates, *once, "training.optimizer.name=sgd", name=stage)
    assert not (tmp_path / "best_model.pth").exists()


def test_weights_that_are_no_numbers_are_not_kept_though_every_answer_is_one(
    train_one: TrainOne, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(learner: Learner, number: int) -> None:
        taken(learner, number)
        learner.model.state_dict()["encoder.model.bn1.running_var"].fill_(torch.inf)  # whose inverse is 0

    taken = Learner.step
    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(TrainingError, match=r"stages\.joint\.learning_rates"):
        train_one(tmp_path, *SHORT, "training.ema_decay=0")
    assert not (tmp_path / "best_model.pth").exists()


KEYS = (
    "seed=1",
    "model.head_dropout=0.5",
    "training.batch_size=6",
    "training.iterations_per_epoch=3",
    "training.optimizer.name=sgd",
    "training.optimizer.name=adam",
    "training.optimizer.weight_decay=0.5",
    "training.optimizer.momentum=0.5",
    "training.scheduler.name=constant",
    "training.scheduler.name=poly",
    "training.scheduler.name=step",
    "training.scheduler.warmup_fraction=0.9",
    "training.scheduler.final_fraction=0.9",
    "training.mask_loss.bce=2",
    "training.mask_loss.dice=2",
    "training.mask_loss.iou=1",
    "training.mask_loss.focal=1",
    "training.mask_loss.tversky=1",
    "training.label_smoothing=0.3",
    "training.clip_norm=0",
    "training.clip_norm=0.01",
    "training.accumulate=2",
    "training.precision=bf16",
    "training.ema_decay=0.9",
    "training.precise_bn=1",
    "training.modality_dropout=0.9",
    "training.augmentation.flip=0",
    "training.augmentation.rotation=80",
    "training.augmentation.scale=0.5",
    "training.augmentation.translation=0.3",
    "training.augmentation.elastic=0.02",
    "training.augmentation.intensity=0.9",
    "training.augmentation.noise=0.9",
    "stages.joint.epochs=2",
    "stages.joint.iterations_per_epoch=3",
    "stages.joint.learning_rates.encoder=0",
    "stages.joint.learning_rates.decoder=0",
    "stages.joint.learning_rates.head=0",
    "stages.joint.objective.segmentation=0",
    "stages.joint.objective.classification=2",
    "stages.joint.sources.pictures=0.8",
    "stages.joint.sources.volumes=0",
)
BASE = (
    "stages.joint.epochs=1",
    "training.iterations_per_epoch=2",
    "training.scheduler.warmup_fraction=0",
    "training.ema_decay=0",
    "training.precision=fp32",
)


@pytest.fixture(scope="module")
def base_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    return {}


@pytest.mark.parametrize("override", KEYS)
def test_every_key_changes_what_is_learned(
    train_one: TrainOne, base_weights: dict[str, dict[str, Tensor]], override: str, tmp_path: Path
) -> None:
    if not base_weights:
        train_one(tmp_path / "base", *BASE)
        base_weights["base"] = weights(tmp_path / "base")
    train_one(tmp_path / "other", *BASE, override)

    other = weights(tmp_path / "other")
    assert any(not torch.equal(tensor, other[name]) for name, tensor in base_weights["base"].items())
