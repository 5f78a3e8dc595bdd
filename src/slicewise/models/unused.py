"""Weights that a network carries but never uses.

segmentation_models_pytorch keeps the deepest stages of most encoders when a network ends above them: a
resnet18 cut at depth 4 holds 8.4 million weights, two thirds of its own, that no image ever meets. They would
be saved, averaged and counted.
"""

import torch
from torch import Tensor, nn


def drop_unused_stages(encoder: nn.Module, image: Tensor) -> None:
    """Remove the direct children of an encoder that take no part in its answer.

    Args:
        encoder: any network; it is looked at in evaluation mode, so no statistic moves.
        image: float [1, channel, row, col], large enough for the encoder.
    """
    training = encoder.training
    met: set[nn.Module] = set()
    hooks = [module.register_forward_hook(lambda module, *_: met.add(module)) for module in encoder.modules()]
    try:
        with torch.no_grad():
            encoder.eval()(image)
    finally:
        for hook in hooks:
            hook.remove()
        encoder.train(training)
    for name, child in list(encoder.named_children()):
        if met.isdisjoint(child.modules()):
            delattr(encoder, name)
