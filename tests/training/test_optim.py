import itertools
from collections.abc import Callable

import pytest
import torch
from tests.fixtures.small_model import TASKS
from torch import nn

from slicewise.config.schema import Config, LearningRates, Optimizer, Scheduler
from slicewise.models.multitask import MultitaskModel, modules_by_part
from slicewise.training.optim import (
    AccumulationGroups,
    clip_gradients,
    lr_factor,
    make_optimizer,
    parameter_groups,
    set_learning_rates,
)

RATES = LearningRates(encoder=1e-4, decoder=1e-3, head=1e-2)


def scheduler(name: str, warmup: float = 0.0, final: float = 0.1) -> Scheduler:
    return Scheduler.model_validate({"name": name, "warmup_fraction": warmup, "final_fraction": final})


def factors(settings: Scheduler, num_steps: int = 100) -> list[float]:
    return [lr_factor(settings, step, num_steps) for step in range(num_steps)]


@pytest.fixture
def model(make_config: Callable[..., Config]) -> MultitaskModel:
    return MultitaskModel(make_config().model, TASKS)


def test_every_parameter_learns_at_the_rate_of_its_part(model: MultitaskModel) -> None:
    groups = parameter_groups(model, RATES, 0.1)
    rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}

    for part, modules in modules_by_part(model).items():
        assert {rate_of[id(parameter)] for parameter in modules.parameters()} == {getattr(RATES, part)}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_norms_biases_and_tokens_are_not_decayed(model: MultitaskModel) -> None:
    groups = parameter_groups(model, RATES, 0.1)
    decay_of = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert decay_of[id(module.weight)] == decay_of[id(module.bias)] == 0
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert decay_of[id(module.weight)] == 0.1
            assert module.bias is None or decay_of[id(module.bias)] == 0
    assert decay_of[id(model.slot_tokens.values)] == 0


def test_a_part_of_rate_zero_has_no_group(model: MultitaskModel) -> None:
    groups = parameter_groups(model, RATES.model_copy(update={"encoder": 0.0}), 0.1)

    assert {group["part"] for group in groups} == {"decoder", "head"}


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimizers_are_those_named_and_take_the_momentum(
    model: MultitaskModel, name: str, kind: type[torch.optim.Optimizer]
) -> None:
    settings = Optimizer.model_validate({"name": name, "weight_decay": 0.1, "momentum": 0.8})

    optimizer = make_optimizer(settings, parameter_groups(model, RATES, 0.1), fused=True)

    assert type(optimizer) is kind
    assert optimizer.defaults.get("momentum", optimizer.defaults.get("betas", (0,))[0]) == 0.8


def test_momentum_zero_is_plain_sgd(model: MultitaskModel) -> None:
    settings = Optimizer(name="sgd", weight_decay=0, momentum=0)

    assert (
        make_optimizer(settings, parameter_groups(model, RATES, 0), fused=False).defaults["nesterov"] is False
    )


def test_constant_stays() -> None:
    assert set(factors(scheduler("constant"))) == {1.0}


@pytest.mark.parametrize("name", ["cosine", "poly"])
def test_cosine_and_poly_fall_from_one_to_the_final_fraction(name: str) -> None:
    curve = factors(scheduler(name))

    assert curve[0] == 1
    assert all(later < earlier for earlier, later in itertools.pairwise(curve))
    assert curve[-1] == pytest.approx(0.1, abs=0.02)


def test_step_multiplies_at_a_half_and_at_three_quarters() -> None:
    curve = factors(scheduler("step"))

    assert [curve[place] for place in (0, 49, 50, 74, 75, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("name", ["constant", "cosine", "poly", "step"])
def test_warm_up_climbs_linearly_from_near_zero(name: str) -> None:
    curve = factors(scheduler(name, warmup=0.2))

    assert curve[0] == pytest.approx(1 / 21)
    assert all(b - a == pytest.approx(1 / 21) for a, b in itertools.pairwise(curve[:20]))
    assert curve[20] == 1


def test_rates_are_set_from_the_peak_each_time(model: MultitaskModel) -> None:
    groups = parameter_groups(model, RATES, 0.1)
    for factor in (0.5, 0.5, 0.25):
        set_learning_rates(groups, factor)

    assert all(group["lr"] == pytest.approx(0.25 * getattr(RATES, group["part"])) for group in groups)


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e3])
def test_gradients_are_clipped_as_torch_clips_them(model: MultitaskModel, max_norm: float) -> None:
    def gradients(clip: Callable[..., object]) -> list[torch.Tensor]:
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter) / 100
        clip(model.parameters(), max_norm)
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    ours, reference = gradients(clip_gradients), gradients(nn.utils.clip_grad_norm_)

    torch.testing.assert_close(ours, reference)


def test_clipping_passes_by_what_is_frozen_and_keeps_a_nan_visible(model: MultitaskModel) -> None:
    clip_gradients(model.parameters(), 1.0)
    assert all(parameter.grad is None for parameter in model.parameters())

    first, *_ = model.parameters()
    first.grad = torch.full_like(first, torch.nan)
    clip_gradients(model.parameters(), 1.0)

    assert first.grad.isnan().all()


def test_the_last_group_may_be_smaller() -> None:
    groups = AccumulationGroups(num_batches=7, accumulate=3)

    assert len(groups) == 3
    assert [groups.size(iteration) for iteration in range(7)] == [3, 3, 3, 3, 3, 3, 1]
    assert [groups.is_last(iteration) for iteration in range(7)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        True,
    ]


def test_without_accumulation_every_batch_is_a_step() -> None:
    groups = AccumulationGroups(num_batches=4, accumulate=1)

    assert len(groups) == 4
    assert all(groups.is_last(iteration) and groups.size(iteration) == 1 for iteration in range(4))
