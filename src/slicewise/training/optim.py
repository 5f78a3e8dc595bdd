"""Optimisers, learning rates as a pure function of the step, gradient accumulation and clipping."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from slicewise.config.schema import LearningRates, Optimizer, Scheduler
from slicewise.models.multitask import MultitaskModel, modules_by_part

_POLY_POWER: Final = 0.9  # Chen 2017, DeepLab


def parameter_groups(
    model: MultitaskModel, rates: LearningRates, weight_decay: float
) -> list[dict[str, Any]]:
    """Return optimiser groups of the trained parts; norms, biases and tokens are not decayed.

    Each group carries `part` and its peak rate as `peak`.
    """
    groups: list[dict[str, Any]] = []
    for part, modules in modules_by_part(model).items():
        peak = getattr(rates, part)
        if peak == 0:
            continue
        layers = nn.Linear | nn.modules.conv._ConvNd
        decayed = [layer.weight for layer in modules.modules() if isinstance(layer, layers)]
        decayed_ids = set(map(id, decayed))
        others = [weight for weight in modules.parameters() if id(weight) not in decayed_ids]
        for members, decay in ((decayed, weight_decay), (others, 0.0)):
            if members:
                groups.append(
                    {"params": members, "part": part, "peak": peak, "lr": peak, "weight_decay": decay}
                )
    return groups


def make_optimizer(
    settings: Optimizer, groups: list[dict[str, Any]], *, fused: bool
) -> torch.optim.Optimizer:
    """Return the optimiser; `fused` runs each step as one kernel."""
    if settings.name == "sgd":
        nesterov = settings.momentum > 0
        return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=nesterov, fused=fused)
    betas = (settings.momentum, 0.999)
    if settings.name == "adam":
        return torch.optim.Adam(groups, betas=betas, fused=fused)
    return torch.optim.AdamW(groups, betas=betas, fused=fused)


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
