"""Optimisers, learning rates as a pure function of the step, gradients, and averaged weights.

A moving average of the weights often generalises better than the last ones (Polyak 1992).
"""

import math
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from slicewise.config.schema import LearningRates, Optimizer, Scheduler
from slicewise.data.loading.dataset import Batch
from slicewise.models.multitask import MultitaskModel, modules_by_part

_POLY_POWER: Final = 0.9  # Chen 2017, DeepLab
_UPDATE_INTERVAL: Final = 4
"""Steps between two updates. Each reads and writes all weights: after every step, 5 % of the time"""


def parameter_groups(
    model: MultitaskModel, rates: LearningRates, weight_decay: float
) -> list[dict[str, Any]]:
    """Return optimiser groups of the trained parts; norms, biases and tokens are not decayed.

    Each group carries `part` and its peak rate as `peak`.
    """
    groups: list[dict[str, Any]] = []
    for part, modules in modules_by_part(model).items():
        if not (peak := getattr(rates, part)):
            continue
        layers = nn.Linear | nn.modules.conv._ConvNd
        decayed = [layer.weight for layer in modules.modules() if isinstance(layer, layers)]
        decayed_ids = set(map(id, decayed))
        others = [weight for weight in modules.parameters() if id(weight) not in decayed_ids]
        shared = {"part": part, "peak": peak, "lr": peak}
        groups += [
            {"params": members, **shared, "weight_decay": decay}
            for members, decay in ((decayed, weight_decay), (others, 0.0))
            if members
        ]
    return groups


def make_optimizer(
    settings: Optimizer, groups: list[dict[str, Any]], *, fused: bool
) -> torch.optim.Optimizer:
    """Return the optimiser; `fused` runs each step as one kernel."""
    momentum = settings.momentum
    if settings.name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, fused=fused)
    adam = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return adam(groups, betas=(momentum, 0.999), fused=fused)


def lr_factor(settings: Scheduler, step: int, num_steps: int) -> float:
    """Return the share of the peak learning rate at `step` (from 0) of `num_steps`.

    The scheduler `step` multiplies by `final_fraction` after a half and after three quarters of the way.
    """
    num_warmup = round(settings.warmup_fraction * num_steps)
    if step < num_warmup:
        return (step + 1) / (num_warmup + 1)
    position = (step - num_warmup) / max(1, num_steps - num_warmup)
    final = settings.final_fraction
    match settings.name:
        case "constant":
            return 1.0
        case "cosine":
            return final + (1 - final) * (1 + math.cos(math.pi * position)) / 2
        case "poly":
            return float(final + (1 - final) * (1 - position) ** _POLY_POWER)
        case "step":
            return float(final ** ((position >= 0.5) + (position >= 0.75)))


def set_learning_rates(groups: list[dict[str, Any]], factor: float) -> None:
    """Set each group's rate to `factor` times its peak."""
    for group in groups:
        group["lr"] = group["peak"] * factor


@dataclass(frozen=True)
class AccumulationGroups:
    """The batches of an epoch in groups whose gradients share a step; the last group may be smaller."""

    num_batches: int
    accumulate: int

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return -(-self.num_batches // self.accumulate)

    def size(self, iteration: int) -> int:
        """Return how many batches share the step of batch `iteration`."""
        first = iteration - iteration % self.accumulate
        return min(self.accumulate, self.num_batches - first)

    def is_last(self, iteration: int) -> bool:
        """Whether a step follows batch `iteration`."""
        return (iteration + 1) % self.accumulate == 0 or iteration + 1 == self.num_batches


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Shrink all gradients together so that their norm is at most `max_norm` (Pascanu 2013).

    On a CPU gradients that are short enough are left alone: multiplying them by 1, as
    `torch.nn.utils.clip_grad_norm_` does, costs another walk through memory. On a GPU the comparison would
    mean waiting.
    """
    trainable = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in trainable if parameter.grad is not None]
    if not gradients:
        return
    norm = get_total_norm(gradients, foreach=True)
    if norm.device.type != "cpu" or not norm <= max_norm:  # so that a NaN is passed on and detected
        clip_grads_with_norm_(trainable, max_norm, norm, foreach=True)


class ModelEMA:
    """A model (`model`) whose trained weights and statistics are the exponential moving average of another's.

    `decay` is the share that stays at each step; it climbs to its value over the first ones, n / (9 + n), to
    forget the random start.
    """

    def __init__(self, model: MultitaskModel, decay: float) -> None:
        self.model = deepcopy(model)
        self._averaged, self._followed = list(_averaged_tensors(self.model)), list(_averaged_tensors(model))
        self._decay, self._num_steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Count an optimiser step; the first four and then every fourth are averaged."""
        self._num_steps += 1
        if self._num_steps > _UPDATE_INTERVAL and self._num_steps % _UPDATE_INTERVAL:
            return
        span = 1 if self._num_steps <= _UPDATE_INTERVAL else _UPDATE_INTERVAL
        decay = min(self._decay, self._num_steps / (9 + self._num_steps)) ** span
        torch._foreach_lerp_(self._averaged, self._followed, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.model.state_dict(), "num_steps": self._num_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["net"], strict=True)
        self._num_steps = state["num_steps"]


def _averaged_tensors(model: MultitaskModel) -> Iterator[Tensor]:
    """Yield the tensors that change while a stage trains; frozen weights stay what they are."""
    yield from (weight for weight in model.parameters() if weight.requires_grad)
    yield from (buffer for buffer in model.buffers() if buffer.is_floating_point())


@torch.no_grad()
def update_bn_statistics(
    fabric: Fabric, model: MultitaskModel, batches: Iterable[Batch], *, channels_last: bool
) -> None:
    """Replace mean and variance of each batch norm by the averages of those of `batches`.

    Statistics gathered in training belong to augmented slices and, where weights are averaged, to earlier
    weights (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm"; Izmailov 2018). Frozen parts keep theirs,
    and a model without others is not run. As everywhere in torch the variance is the mean of those within the
    batches, not that of all their pixels.
    """
    layers = [layer for layer in model.train().modules() if isinstance(layer, _BatchNorm) and layer.training]
    model.eval()  # dropout would be measured, too
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # all batches have equal weights
        layer.train()
    try:
        for batch in batches:
            on_device = batch.to(fabric.device, channels_last)
            with fabric.autocast():
                model(on_device.images, on_device.presence)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
