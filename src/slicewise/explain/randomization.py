"""Model randomization test (Adebayo 2018): does a saliency map depend on what the model has learnt?"""

import copy
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from slicewise.config.schema.training import Part
from slicewise.models.multitask import MultitaskModel, modules_by_part

CASCADE_ORDER: Final[tuple[Part, ...]] = ("head", "decoder", "encoder")
"""From the output to the input; at each level the parts before it stay randomized."""


def randomize_cascade(model: MultitaskModel, seed: int) -> Iterator[tuple[Part, MultitaskModel]]:
    """Yield (part randomized last, a copy of the model); each yield changes the same copy further."""
    randomized = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in CASCADE_ORDER:
            _reinitialize(modules_by_part(randomized)[part])
            state = torch.random.get_rng_state()
            yield part, randomized
            torch.random.set_rng_state(state)


def _reinitialize(part: nn.Module) -> None:
    """Reset every layer, batch-norm statistics too; parameters without `reset_parameters` get N(0, 1)."""
    for module in part.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            continue
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter)


def rank_correlation(
    first: NDArray[np.float32], second: NDArray[np.float32], inside: NDArray[np.bool_]
) -> float:
    """Return Spearman's rank correlation (1904) of two maps [N, N] over the brain; 0 if one is constant."""
    values, others = first[inside], second[inside]
    if not (np.ptp(values) and np.ptp(others)):
        return 0.0
    return float(spearmanr(values, others).statistic)
