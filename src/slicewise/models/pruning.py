"""Weights that a network carries but never uses.

segmentation_models_pytorch keeps the deepest stages of most encoders when a network ends above them: a
resnet18 cut at depth 4 holds 8.4 million weights, two thirds of its own, that no image ever meets. Encoders
of timm even compute their last stages, and drop what they give. All would be saved, averaged and counted.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def prune_unused_stages(encoder: nn.Module, image: Tensor) -> None:
    """Remove the parts of an encoder that take no part in its answer.

    A part is left out if no image meets it, or if it ends a chain of layers and its answer goes nowhere.

    Args:
        encoder: any network with a list of maps as its answer; it is looked at in evaluation mode, so no
            statistic moves.
        image: float [1, channel, row, col], large enough for the encoder.
    """
    training = encoder.training
    visited: set[nn.Module] = set()
    hooks = [
        module.register_forward_hook(lambda module, *_: visited.add(module)) for module in encoder.modules()
    ]
    try:
        with torch.enable_grad():
            contributing = _contributing_weights(encoder.eval()(image))
    finally:
        for hook in hooks:
            hook.remove()
        encoder.train(training)
    _remove_unused(encoder, visited, contributing)


def _contributing_weights(maps: Sequence[Tensor]) -> set[Any]:
    """Return the weights that the maps were computed from: those that their history leads back to."""
    pending: list[Any] = [feature_map.grad_fn for feature_map in maps]
    nodes: set[Any] = set()
    while pending:
        node = pending.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            pending += [before for before, _ in node.next_functions]
    return {node.variable for node in nodes if hasattr(node, "variable")}


def _remove_unused(parent: nn.Module, visited: set[nn.Module], contributing: set[Any]) -> None:
    """Remove what is not met, and idle ends of chains; without a history nothing is known of the latter."""
    for name, child in list(parent.named_children()):
        weights = list(child.parameters())
        idle = bool(contributing and weights) and contributing.isdisjoint(weights)
        if visited.isdisjoint(child.modules()) or (idle and isinstance(parent, nn.Sequential)):
            delattr(parent, name)
        else:
            _remove_unused(child, visited, contributing)
