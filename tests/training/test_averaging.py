from collections.abc import Callable

import torch

from slicewise.config.schema import Config
from slicewise.models.multitask import build_model
from slicewise.training.averaging import WeightAverage

MakeConfig = Callable[..., Config]


def fill(net: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in (*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())):
            tensor.fill_(value)


def test_weights_are_averaged_with_a_decay_that_climbs_and_buffers_are_copied(
    make_config: MakeConfig,
) -> None:
    net = build_model(make_config().model)
    average = WeightAverage(net, decay=0.15)
    values, expected = (1.0, 2.0, 4.0), None
    for count, value in enumerate(values):
        fill(net, value)
        average.update(net)
        decay = min(0.15, (1 + count) / (10 + count))
        expected = value if expected is None else decay * expected + (1 - decay) * value

    averaged = average.net
    assert all(torch.allclose(p, torch.full_like(p, expected or 0)) for p in averaged.parameters())
    assert all((b == 4).all() for b in averaged.buffers() if b.is_floating_point())


def test_the_average_goes_on_from_its_state(make_config: MakeConfig) -> None:
    net = build_model(make_config().model)
    first, second = WeightAverage(net, 0.5), WeightAverage(net, 0.5)
    fill(net, 1.0)
    first.update(net)
    second.load_state_dict(first.state_dict())
    fill(net, 2.0)
    first.update(net)
    second.update(net)

    ours, theirs = first.net.state_dict(), second.net.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
