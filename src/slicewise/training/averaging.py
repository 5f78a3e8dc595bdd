"""A moving average of the weights, which often generalises better than the last ones (Polyak 1992)."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from slicewise.models.multitask import MultitaskNet


class WeightAverage:
    """The exponential moving average of a network's weights; buffers are those of the network.

    The decay climbs to its value over the first steps, (1 + n) / (10 + n), to forget the random start.
    """

    def __init__(self, net: MultitaskNet, decay: float) -> None:
        self._decay = decay
        self._model = AveragedModel(net, multi_avg_fn=self._average)

    @property
    def net(self) -> MultitaskNet:
        """The network with the averaged weights."""
        net = self._model.module
        assert isinstance(net, MultitaskNet)
        return net

    def update(self, net: MultitaskNet) -> None:
        """Take the weights of `net` after a step into the average."""
        self._model.update_parameters(net)

    def state_dict(self) -> dict[str, Any]:
        return self._model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._model.load_state_dict(state)

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, num_averaged: Tensor | int) -> None:
        count = int(num_averaged)
        decay = min(self._decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(averaged, current, 1 - decay)
