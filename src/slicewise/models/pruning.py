"""Structured pruning: models with fewer channels in each layer.

torch-pruning (Fang 2023) finds which channels of which layers depend on each other, and removes those whose
weights have the smallest norms. What is left is a smaller model of ordinary layers.
"""

import importlib
from typing import Any, Final

import torch
from torch import Tensor, nn

from slicewise.config.schema import Model
from slicewise.core.errors import UsageError
from slicewise.models.multitask import MultitaskModel
from slicewise.models.widths import layer_sizes

_ROUND_TO: Final = 4
"""Channels that are left are multiples of it: kernels compute 4 to 16 at a time"""
_NOT_FOLLOWED: Final = ("manet",)
"""Their attention mixes all places and channels"""
_PROBE_SIZE: Final = 64
"""Pixels on a side of the images from which the dependencies are found"""


class _Traceable(nn.Module):
    """The forward pass in operations that torch-pruning follows; returns the logits of each head."""

    def __init__(self, model: MultitaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, presence: Tensor) -> list[Tensor]:
        decoded = self.model.decode(self.model.encode(images, presence))
        logits = []
        if "segmentation" in self.model.tasks:
            logits.append(self.model.mask_head(decoded))
        if "classification" in self.model.tasks:
            pooled = torch.cat([decoded.mean((2, 3)), decoded.amax((2, 3))], 1)
            logits.append(self.model.class_head.layers(pooled))
        return logits


def prune(model: MultitaskModel, ratio: float) -> Model:
    """Remove a share of the channels of every layer but the heads' last ones; return its `model` section.

    The weights that are left are the same.

    Raises:
        UsageError: torch-pruning is not installed, or cannot prune this model.
    """
    settings = model.settings
    try:
        torch_pruning: Any = importlib.import_module("torch_pruning")
    except ImportError as error:
        raise UsageError(
            f"--prune needs torch-pruning ({error}): pip install 'slicewise[compression]'"
        ) from error
    if settings.architecture in _NOT_FOLLOWED:
        raise UsageError(
            f"--prune: torch-pruning takes hours for model.architecture={settings.architecture}; distil"
        )
    before, channels = layer_sizes(model), model.slot_tokens.values.shape[1]
    model.float().eval().requires_grad_(True)  # autograd shows the dependencies
    example = (torch.zeros(2, channels, _PROBE_SIZE, _PROBE_SIZE), torch.ones(2, channels))
    try:
        torch_pruning.pruner.BasePruner(
            _Traceable(model),
            example,
            torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=_last_layers(model),
            unwrapped_parameters=[(model.slot_tokens.values, 1)],
            round_to=_ROUND_TO,
        ).step()
        with torch.no_grad():
            model(*example)
    except Exception as error:  # it raises many kinds on models that it does not follow
        raise UsageError(
            f"torch-pruning cannot prune model.architecture={settings.architecture} with "
            f"model.encoder={settings.encoder} ({error!s:.200}); --distill makes a smaller model of any"
        ) from error
    after = layer_sizes(model)
    if after == before:
        raise UsageError(
            f"--prune {ratio:g} removes nothing: layers keep multiples of {_ROUND_TO} channels; prune more"
        )
    known, whole = dict(settings.widths or ()), {name for name in after if after[name] != before[name]}
    widths = tuple((name, after[name]) for name in sorted(known.keys() | whole))
    model.settings = settings.model_copy(update={"widths": widths})
    return model.settings


def _last_layers(model: MultitaskModel) -> list[Any]:
    """Return the layers whose outputs are logits."""
    heads = [getattr(model, f"{task.head}_head") for task in model.tasks.values()]
    return [
        [layer for layer in head.modules() if isinstance(layer, nn.Conv2d | nn.Linear)][-1] for head in heads
    ]
