"""How large a network is, and what one slice takes on its way through: asked without computing anything."""

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from slicewise.config.schema import Model
from slicewise.domain.labels import NUM_MODALITIES
from slicewise.models.multitask import build_model


@dataclass(frozen=True)
class Footprint:
    """Counts of numbers, not bytes."""

    num_weights: int
    """Parameters and buffers"""
    num_activations: int
    """Values of one slice that training keeps for the way back"""
    peak_activations: int
    """Values of one slice that are alive at once where nothing is kept: the two largest maps"""


@lru_cache(maxsize=8)
def measure_footprint(settings: Model, image_size: int) -> Footprint:
    """Send the shapes of one slice of `image_size` through the network; tensors without memory carry them.

    A network that looks into its tensors on the way cannot be asked so: its maps then count as nothing.
    """
    sizes: list[int] = []

    def record_size(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and not getattr(module, "inplace", False):
            sizes.append(output.numel())

    with torch.random.fork_rng(), torch.no_grad():
        model = build_model(settings.model_copy(update={"encoder_weights": None})).to("meta").eval()
        for module in model.modules():
            if not list(module.children()):
                module.register_forward_hook(record_size)
        images = torch.empty(1, NUM_MODALITIES, image_size, image_size, device="meta")
        with suppress(RuntimeError, NotImplementedError):
            # An encoder may ask for values: what came before is then the estimate; no run is refused.
            model.mask_head(model.decode(model.encode(images, torch.ones(1, NUM_MODALITIES, device="meta"))))
    weights = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    return Footprint(weights, images.numel() + sum(sizes), sum(sorted(sizes)[-2:]))
