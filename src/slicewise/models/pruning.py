"""Removal of encoder stages that a model carries but never uses.

segmentation_models_pytorch keeps the deepest stages of most encoders when a model ends above them: a resnet18
cut at depth 4 holds 8.4 million weights, two thirds of its own, that no image reaches. Encoders of timm even
compute their last stages, and drop the result. All would be saved, averaged and counted.
"""

from typing import Any

import torch
from torch import Tensor, nn


def prune_unused_stages(encoder: nn.Module, image: Tensor) -> None:
    """Remove the modules of an encoder that do not contribute to its feature maps.

    Removed are modules that never run, and those at the end of a chain whose output is not used.

    Args:
        encoder: any module that returns a list of maps; it runs in evaluation mode, so no statistic changes.
        image: float [1, channel, row, col], large enough for the encoder.
    """
    training = encoder.training
    executed: set[nn.Module] = set()
    hooks = [
        module.register_forward_hook(lambda module, *_: executed.add(module)) for module in encoder.modules()
    ]
    try:
        with torch.enable_grad():
            maps = encoder.eval()(image)
    finally:
        for hook in hooks:
            hook.remove()
        encoder.train(training)
    pending: list[Any] = [feature_map.grad_fn for feature_map in maps]
    nodes: set[Any] = set()  # of the graph that autograd recorded
    while pending:
        node = pending.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            pending += [before for before, _ in node.next_functions]
    _remove_unused(encoder, executed, {node.variable for node in nodes if hasattr(node, "variable")})


def _remove_unused(parent: nn.Module, executed: set[nn.Module], contributing: set[Any]) -> None:
    """Remove children that never ran, and ends of chains without contributing weights (if any are known)."""
    for name, child in list(parent.named_children()):
        weights = list(child.parameters())
        idle = bool(contributing and weights) and contributing.isdisjoint(weights)
        if executed.isdisjoint(child.modules()) or (idle and isinstance(parent, nn.Sequential)):
            delattr(parent, name)
        else:
            _remove_unused(child, executed, contributing)
