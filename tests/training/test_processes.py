"""Two processes that share each batch train like one."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.conftest import MakeConfig, TrainOne
from tests.training.exact import UNIT, double_pass, longest_sum
from tests.training.test_memory_layout import difference
from tests.training.test_stage import PowerFailureError, PullsThePlug, same, table

from slicewise.core.errors import ConfigError, TrainingError, UsageError
from slicewise.data.loading.dataset import SliceDataset
from slicewise.models.checkpoint import load_checkpoint
from slicewise.training import processes
from slicewise.training.processes import join_processes, shared_config
from slicewise.training.state import load_state

PLAIN = (
    "stages.joint.epochs=2",
    "training.iterations_per_epoch=2",
    "training.accumulate=2",
    "training.batch_size=7",  # an odd number: four slices and three
    "training.ema_decay=0.9",
    "training.precise_bn=1",
    "training.optimizer.name=sgd",  # Adam's first steps have the size of the rate, whatever the gradient
    "training.clip_norm=0",  # which would hide a factor of all gradients
    "training.precision=fp32",
    "model.head_dropout=0.3",
)
TWO = "runtime.num_processes=2"


def losses(out_dir: Path) -> list[tuple[float, float]]:
    """Return the training and validation loss of each epoch, in full precision."""
    found = load_state(out_dir / "last.pth", "f")
    assert found is not None
    return [(row["train_loss"], row["val_loss"]) for row in found[0].history]


@pytest.mark.slow
def test_two_processes_train_like_one_and_resume_to_the_bit(
    train_one: TrainOne, make_config: MakeConfig, train_set: SliceDataset, tmp_path: Path
) -> None:
    """The bound is that of `test_memory_layout` for one pass, in each of the steps; no warning, no output."""
    one, two, cut = (tmp_path / name for name in ("one", "two", "cut"))
    train_one(one, *PLAIN)
    assert train_one(two, *PLAIN, TWO).num_processes == 2
    with pytest.raises(PowerFailureError):
        train_one(cut, *PLAIN, TWO, "runtime.checkpoint_seconds=1e-6", data=PullsThePlug(train_set, 4))
    assert train_one(cut, *PLAIN, TWO).resumed_from == "epoch 2, batch 0"

    config, batch = (
        make_config(*PLAIN, "model.head_dropout=0"),
        train_set.gather(np.array([*range(5), 40, 41])),
    )
    exact, rounded = double_pass(config, batch), double_pass(config, batch, rounding=True)
    bound = 4 * longest_sum(config, batch) ** 0.5 * (difference(rounded["loss"], exact["loss"]) + UNIT)
    np.testing.assert_allclose(losses(two), losses(one), rtol=bound)
    ours, theirs = load_checkpoint(two / "best_model.pth"), load_checkpoint(one / "best_model.pth")
    statistics = [name for name in ours.weights if name.endswith("running_var")]
    assert len(statistics) > 10
    for name in statistics:
        assert difference(ours.weights[name], theirs.weights[name]) < 100 * bound, name
    (start, _), (end, _) = losses(one)
    assert abs(start - end) > 1000 * bound, "an epoch changes the loss by more"
    assert same(two, cut)
    assert table(two) == table(cut)


def fail(how: str) -> None:
    """End a process."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise TrainingError("the loss is NaN")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("failed", r"process 2 of 2: the loss is NaN"),
        ("killed", r"process 2 of 2 was killed, probably for lack"),
    ],
)
def test_why_another_process_ended_is_said(make_config: MakeConfig, how: str, message: str) -> None:
    before = dict(os.environ)
    with pytest.raises(TrainingError, match=message), join_processes(make_config(TWO), partial(fail, how)):
        torch.distributed.all_reduce(torch.zeros(1))
    assert not processes.is_shared()
    assert dict(os.environ) == before


def test_more_processes_than_slices_in_a_batch_are_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"runtime\.num_processes=9 .* training\.batch_size=8"):
        make_config("runtime.num_processes=9")


def test_every_process_needs_a_gpu_of_its_own(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(device: str) -> Callable[[str], torch.device]:
        return lambda _: torch.device(device)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(processes, "choose_device", on("cuda"))
    with pytest.raises(UsageError, match=r"runtime\.num_processes=2 needs a GPU for each .* there is 1"):
        shared_config(make_config(TWO))
    monkeypatch.setattr(processes, "choose_device", on("mps"))
    with pytest.raises(UsageError, match=r"needs runtime\.device=cpu or cuda"):
        shared_config(make_config(TWO))
