"""A copy of the network that has forgotten some of its parts, for the sanity check of its explanations."""

import copy
from collections.abc import Iterator
from typing import Final

import torch
from torch import nn

from slicewise.config.schema.training import Part
from slicewise.models.multitask import MultitaskModel, modules_by_part

CASCADE_ORDER: Final[tuple[Part, ...]] = ("head", "decoder", "encoder")
"""From the answer down to the picture; each level forgets those before it too (Adebayo 2018)."""


def randomize_cascade(model: MultitaskModel, seed: int) -> Iterator[tuple[Part, MultitaskModel]]:
    """Yield (part that was forgotten last, the network so far); each yield changes the network before it."""
    randomized = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in CASCADE_ORDER:
            _reinitialize(modules_by_part(randomized)[part])
            state = torch.random.get_rng_state()
            yield part, randomized
            torch.random.set_rng_state(state)


def _reinitialize(part: nn.Module) -> None:
    """Start every layer anew, batch-norm statistics too; what no layer owns is drawn from N(0, 1)."""
    for module in part.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            continue
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter)
