from collections.abc import Callable

import torch
from tests.fixtures.small_model import TASKS

from slicewise.config.schema import Config
from slicewise.models.multitask import MultitaskModel
from slicewise.training.optim import ModelEMA

MakeConfig = Callable[..., Config]


def fill(model: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.fill_(value)


def test_weights_and_statistics_are_averaged_with_a_decay_that_climbs(make_config: MakeConfig) -> None:
    model = MultitaskModel(make_config().model, TASKS)
    fill(model, 1.0)
    average, expected = ModelEMA(model, decay=0.45), 1.0
    for count in range(1, 13):
        fill(model, float(count))
        average.update()
        if count <= 4 or count % 4 == 0:
            decay = min(0.45, count / (9 + count)) ** (1 if count <= 4 else 4)
            expected = decay * expected + (1 - decay) * count
        for value in (*average.model.parameters(), *average.model.buffers()):
            if value.is_floating_point():
                torch.testing.assert_close(value, torch.full_like(value, expected))


def test_frozen_weights_keep_every_bit(make_config: MakeConfig) -> None:
    model = MultitaskModel(make_config().model, TASKS)
    model.freeze(["encoder", "decoder"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average = ModelEMA(model, decay=0.9)
    with torch.no_grad():
        for weight in model.class_head.parameters():
            weight.add_(1.0)
    average.update()
    changed = {
        name for name, value in average.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {f"class_head.{name}" for name, _ in model.class_head.named_parameters()}


def test_the_average_goes_on_from_its_state(make_config: MakeConfig) -> None:
    model = MultitaskModel(make_config().model, TASKS)
    first, second = ModelEMA(model, 0.5), ModelEMA(model, 0.5)
    for value in (1.0, 3.0, 5.0, 4.0, 6.0, 2.0):  # not yet at the next update
        fill(model, value)
        first.update()
    second.load_state_dict(first.state_dict())
    for value in (7.0, 8.0):
        fill(model, value)
        first.update()
        second.update()

    ours, theirs = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
