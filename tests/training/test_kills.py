"""A stage that is cut off or stopped at any batch goes on there, with the same bits."""

import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from tests.training.conftest import TrainOne, validated
from tests.training.test_stage import PowerFailureError, PullsThePlug, same, table

from slicewise.core.signals import handle_signals
from slicewise.data.loading.dataset import Batch, Indices, SliceDataset
from slicewise.models.checkpoint import load_checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.training.model_selection import Validation
from slicewise.training.state import Progress, load_state

EVERYTHING = (
    "stages.{stage}.epochs=3",
    "stages.{stage}.patience=2",
    "training.iterations_per_epoch=4",
    "training.accumulate=3",
    "training.ema_decay=0.9",
    "training.precise_bn=2",
    "training.modality_dropout=0.7",
    "training.augmentation.flip=0.5",
    "training.augmentation.rotation=20",
    "training.augmentation.elastic=0.02",
    "training.augmentation.bias=0.2",
    "training.augmentation.noise=0.2",
    "training.scheduler.warmup_fraction=0.3",
    "model.head_dropout=0.5",
)
COMPARED = (
    "epoch",
    "step",
    "top_score",
    "best_epoch",
    "best_metrics",
    "start_metrics",
    "num_images",
    "top_epoch",
)
OFTEN = "runtime.checkpoint_seconds=1e-6"


class Stops(SliceDataset):
    """A data set that sends this process a signal while it reads batch number `after`."""

    def __init__(self, whole: SliceDataset, after: int) -> None:
        super().__init__({"volumes": whole.cases[:5], "pictures": whole.cases[5:]})
        self.left = after

    def gather(self, indices: Indices) -> Batch:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)
        return super().gather(indices)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back what a stopped process keeps."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in kept.items():
        signal.signal(number, handler)


def everything(stage: str) -> list[str]:
    return [override.format(stage=stage) for override in EVERYTHING]


def progress(out_dir: Path) -> Progress:
    found = load_state(out_dir / "last.pth", "f")
    assert found is not None
    return found[0]


def assert_alike(one: Path, other: Path) -> None:
    assert same(one, other)
    assert table(one) == table(other)
    ours, theirs = progress(one), progress(other)
    for name in COMPARED:
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.fixture(scope="module")
def whole(train_one: TrainOne, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of a stage with everything on and more overrides that nothing has interrupted."""

    @cache
    def train(stage: str, *overrides: str) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        train_one(folder, *everything(stage), *overrides, name=stage)
        return folder

    return train


@pytest.mark.parametrize("stage", ["cls_head", "joint"])
def test_killed_again_and_again_with_everything_on_it_ends_with_the_same_bits(
    train_one: TrainOne, whole: Callable[..., Path], train_set: SliceDataset, tmp_path: Path, stage: str
) -> None:
    for batches in (1, 2, 5, 4):
        with pytest.raises(PowerFailureError):
            train_one(
                tmp_path / "cut",
                *everything(stage),
                OFTEN,
                name=stage,
                data=PullsThePlug(train_set, batches),
            )
    result = train_one(tmp_path / "cut", *everything(stage), OFTEN, name=stage)

    assert result.resumed_from is not None
    assert_alike(whole(stage), tmp_path / "cut")


@pytest.mark.parametrize("batches", [3, 6])
def test_what_the_start_was_worth_outlives_a_kill(
    train_one: TrainOne,
    whole: Callable[..., Path],
    train_set: SliceDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batches: int,
) -> None:
    """Each epoch has a better score than the start and a worse Dice: to forget the start would keep one."""

    def measure(fabric: object, model: MultitaskModel, data: SliceDataset, *_: object) -> Validation:
        learned = not all(
            torch.equal(tensor, start.weights[name]) for name, tensor in model.state_dict().items()
        )
        return validated(data, dice=0.5 - 0.2 * learned, auc=0.5 + 0.4 * learned)

    start = load_checkpoint(whole("joint") / "best_model.pth")
    monkeypatch.setattr("slicewise.training.trainer.validate", measure)
    undisturbed = train_one(tmp_path / "whole", *everything("joint"), start=start)
    with pytest.raises(PowerFailureError):
        train_one(
            tmp_path / "cut",
            *everything("joint"),
            OFTEN,
            data=PullsThePlug(train_set, batches),
            start=start,
        )
    resumed = train_one(tmp_path / "cut", *everything("joint"), OFTEN, start=start)

    assert resumed.resumed_from is not None
    assert undisturbed.best_epoch == resumed.best_epoch == 0
    assert undisturbed.start_metrics == resumed.start_metrics == {"val_loss": 1.0, "dice": 0.5, "auc": 0.5}
    assert progress(tmp_path / "whole").top_values == progress(tmp_path / "cut").top_values != {}
    assert_alike(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("after", [1, 2, 3, 5, 7, 8, 11])
def test_a_state_is_saved_after_every_step_that_is_due(
    train_one: TrainOne, train_set: SliceDataset, tmp_path: Path, after: int
) -> None:
    """With an interval of nothing, no more is lost than the batches whose gradients wait for a step."""
    only_training = (*everything("joint"), "training.precise_bn=0", OFTEN)
    with pytest.raises(PowerFailureError):
        train_one(tmp_path, *only_training, data=PullsThePlug(train_set, after))
    epochs, batches = divmod(after, 4)
    steps_ended = 2 * epochs + (batches == 3)
    if steps_ended:
        assert progress(tmp_path).step == steps_ended
    else:
        assert not (tmp_path / "last.pth").exists()


@pytest.mark.parametrize(("after", "accumulate"), [(2, 1), (4, 3), (6, 3), (7, 1), (9, 3)])
@pytest.mark.usefixtures("handlers")
def test_a_stopped_stage_saves_where_it_was_and_goes_on_there(
    train_one: TrainOne,
    whole: Callable[..., Path],
    train_set: SliceDataset,
    tmp_path: Path,
    after: int,
    accumulate: int,
) -> None:
    settings = (*everything("joint"), f"training.accumulate={accumulate}")
    with pytest.raises(KeyboardInterrupt), handle_signals():
        train_one(tmp_path / "cut", *settings, data=Stops(train_set, after))

    stopped = progress(tmp_path / "cut")
    assert not stopped.finished
    assert stopped.step > 0
    result = train_one(tmp_path / "cut", *settings)
    assert result.resumed_from == f"epoch {stopped.epoch + 1}, batch {stopped.iteration}"
    assert_alike(whole("joint", settings[-1]), tmp_path / "cut")


@pytest.mark.usefixtures("handlers")
def test_what_was_stopped_in_the_middle_of_a_step_is_not_saved(
    train_one: TrainOne, train_set: SliceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*_: object) -> None:
        raise KeyboardInterrupt  # as when patience with a long batch is over

    monkeypatch.setattr("slicewise.training.learner.Learner.step", torn)
    with pytest.raises(KeyboardInterrupt):
        train_one(tmp_path, *everything("joint"))
    assert not (tmp_path / "last.pth").exists()


def test_the_state_holds_the_average_and_the_optimiser(train_one: TrainOne, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _stop_after_epoch(train_one, tmp_path)
    found = load_state(tmp_path / "last.pth", "f")
    assert found is not None
    assert all(torch.is_tensor(tensor) for tensor in found[1]["average"]["net"].values())
    assert found[1]["average"]["num_steps"] > 0
    assert found[1]["optimizer"]["state"]


def _stop_after_epoch(train_one: TrainOne, out_dir: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slicewise.training.artifacts.StageArtifacts.save_best", lambda *_: None)
        calls = iter(range(2))

        def validate_once(fabric: object, model: object, data: SliceDataset, *_: object) -> Validation:
            if next(calls):
                raise KeyboardInterrupt
            return validated(data, dice=0.5, auc=0.5)

        patch.setattr("slicewise.training.trainer.validate", validate_once)
        train_one(out_dir, *everything("joint"))
