"""Averaged weights, which often generalise better than the last ones (Polyak 1992), and their batch norms."""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any, Final

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from slicewise.data.loading.dataset import Batch
from slicewise.models.multitask import MultitaskModel

_UPDATE_INTERVAL: Final = 4
"""Steps between two updates. Each reads and writes all weights: after every step, 5 % of the time"""


class ModelEMA:
    """The exponential moving average of trained weights and normalisation statistics.

    The decay climbs to its value over the first steps, n / (9 + n), to forget the random start.

    Args:
        model: the model to follow, with its frozen parts frozen.
        decay: share of the average that stays at each step.

    Attributes:
        model: the model with the averaged weights.
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
