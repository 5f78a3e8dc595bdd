from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fixtures.small_model import TASKS
from torch import Tensor, nn

from slicewise.config.schema import Config
from slicewise.data.loading.dataset import Batch, SliceDataset
from slicewise.data.loading.loader import TrainLoader
from slicewise.models.checkpoint import load_checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.training.learner import make_fabric
from slicewise.training.optim import update_bn_statistics
from slicewise.training.stage import StageResult

MakeConfig = Callable[..., Config]
TrainOne = Callable[..., StageResult]

SHORT = ("stages.joint.epochs=1", "training.iterations_per_epoch=4")


@pytest.fixture
def batches(train_set: SliceDataset) -> list[Batch]:
    return [train_set.gather(np.arange(first, first + 8)) for first in (0, 8, 16)]


@pytest.fixture
def model(make_config: MakeConfig) -> MultitaskModel:
    torch.manual_seed(0)
    return MultitaskModel(make_config("model.head_dropout=0.5").model, TASKS)


def measure(config: Config, model: MultitaskModel, batches: list[Batch]) -> None:
    fabric = make_fabric(config.runtime, "fp32")
    update_bn_statistics(fabric, model, batches, channels_last=False)


def norms(model: nn.Module) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    yield from ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d))


def seen_by(model: MultitaskModel, name: str, batches: list[Batch]) -> list[Tensor]:
    """Return what comes in at a layer, batch by batch, while every norm uses the batch's own statistics."""
    seen: list[Tensor] = []
    layer = dict(norms(model))[name]
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch.images, batch.presence)
    hook.remove()
    model.load_state_dict(before)
    return seen


def test_each_norm_holds_the_mean_over_batches_of_what_came_in(
    make_config: MakeConfig, model: MultitaskModel, batches: list[Batch]
) -> None:
    measure(make_config(), model, batches)
    for name in [name for name, _ in norms(model)][::7]:
        maps = [inputs.transpose(0, 1).flatten(1).double() for inputs in seen_by(model, name, batches)]
        mean = torch.stack([values.mean(1) for values in maps]).mean(0)
        variance = torch.stack([values.var(1) for values in maps]).mean(0)
        layer = dict(norms(model))[name]
        assert layer.running_mean is not None
        assert layer.running_var is not None
        torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(layer.running_var.double(), variance, rtol=1e-3, atol=1e-4)


def test_nothing_else_changes_and_what_was_there_before_has_no_part(
    make_config: MakeConfig, model: MultitaskModel, batches: list[Batch]
) -> None:
    weights = [value.clone() for value in model.parameters()]
    momenta = [layer.momentum for _, layer in norms(model)]
    measure(make_config(), model, batches)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    for _, layer in norms(model):
        assert layer.running_var is not None
        layer.running_var.fill_(torch.nan)
    measure(make_config(), model, batches)

    again = model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))
    assert [layer.momentum for _, layer in norms(model)] == momenta
    assert not any(layer.training for layer in model.modules())


def test_frozen_parts_keep_every_bit_and_a_network_without_others_is_not_run(
    make_config: MakeConfig, model: MultitaskModel, batches: list[Batch]
) -> None:
    class Unread(list[Batch]):
        def __iter__(self) -> Iterator[Batch]:
            raise AssertionError("read for nothing")

    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.freeze(["encoder"])
    measure(make_config(), model, batches)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in changed} == {"decoder"}

    model.freeze(["encoder", "decoder"])
    measure(make_config(), model, Unread())


def test_the_first_batches_of_the_epoch_are_measured_as_they_were_before_augmentation(
    train_one: TrainOne, make_config: MakeConfig, train_set: SliceDataset, tmp_path: Path
) -> None:
    overrides = (*SHORT, "training.precise_bn=3", "training.precision=fp32", "training.channels_last=false")
    train_one(tmp_path, *overrides, "training.augmentation.noise=2")
    kept = load_checkpoint(tmp_path / "best_model.pth")

    config = make_config(*overrides)
    model = MultitaskModel(config.model, config.tasks)
    model.load_state_dict(kept.weights)
    shuffled = TrainLoader(
        train_set, config.stages["joint"].sources, batch_size=8, iterations=4, key=(config.seed, "joint")
    )
    measure(config, model, list(shuffled.iterate(epoch=0, stop=3)))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, kept.weights[name], rtol=1e-5, atol=1e-6)


def test_training_itself_does_not_notice(train_one: TrainOne, tmp_path: Path) -> None:
    """Weights follow the statistics of their own batch, so only what is kept differs."""
    two = ("stages.joint.epochs=2", "training.iterations_per_epoch=4", "stages.joint.monitor=last")
    train_one(tmp_path / "plain", *two)
    train_one(tmp_path / "precise", *two, "training.precise_bn=2")
    plain, precise = (
        load_checkpoint(tmp_path / name / "best_model.pth").weights for name in ("plain", "precise")
    )
    differ = {name for name in plain if not torch.equal(plain[name], precise[name])}
    assert differ
    assert all(
        name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked") for name in differ
    )
