"""The numbers that a model and one slice in it take, counted without computing anything."""

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from slicewise.config.schema import Model, Tasks
from slicewise.models.multitask import MultitaskModel


@dataclass(frozen=True)
class Footprint:
    """Counts of numbers, not bytes."""

    num_weights: int
    """Parameters and buffers"""
    num_activations: int
    """Activations of one slice that training keeps for the backward pass"""
    peak_activations: int
    """Activations of one slice that are alive at once in inference: the two largest maps"""


@lru_cache(maxsize=8)
def measure_footprint(settings: Model, tasks: Tasks, image_size: int, channels: int) -> Footprint:
    """Return the counts for slices [channels, image_size, image_size], from a forward pass without memory.

    Layers after one that reads the values of its tensors cannot be counted: the estimate is then too small.
    """
    sizes: list[int] = []

    def record_size(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and not getattr(module, "inplace", False):
            sizes.append(output.numel())

    with torch.random.fork_rng(), torch.no_grad():
        plain = settings.model_copy(update={"encoder_weights": None})
        model = MultitaskModel(plain, tasks, channels).to("meta").eval()
        for module in model.modules():
            if not list(module.children()):
                module.register_forward_hook(record_size)
        images = torch.empty(1, channels, image_size, image_size, device="meta")
        with suppress(RuntimeError, NotImplementedError):  # a layer that reads values; no run is refused
            model(images, torch.ones(1, channels, device="meta"), ("segmentation",))
    weights = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    return Footprint(weights, images.numel() + sum(sizes), sum(sorted(sizes)[-2:]))
