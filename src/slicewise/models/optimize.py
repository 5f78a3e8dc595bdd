"""Architectures of other libraries made smaller and faster: unused stages and slow depthwise convolutions.

segmentation_models_pytorch keeps the deepest stages of most encoders when a model ends above them: a resnet18
cut at depth 4 holds 8.4 million weights, two thirds of its own, that no image reaches. Encoders of timm even
compute their last stages, and drop the result. All would be saved, averaged and counted.

oneDNN has no fast bfloat16 kernel for two gradients of a depthwise convolution: that of weights larger than
3 x 3, and that of the images where the stride is 2. The latter takes 5.9 ms for images [8, 96, 49, 49] in
bfloat16, and 0.4 ms in fp32. An EfficientNet-Lite0 trains a third faster in fp32.
"""

from typing import Any, Final

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

_FAST_KERNEL: Final = 3


def prune_unused_stages(encoder: nn.Module, image: Tensor) -> int:
    """Remove modules that never run, and those at the end of a chain whose output is not used.

    Return the channels of the deepest map. The encoder returns a list of maps; it runs in evaluation mode on
    `image` [1, channel, row, col].
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
    _remove_unused(encoder, executed, {node.variable for node in nodes if hasattr(node, "variable")}, image)
    return int(maps[-1].shape[1])


def _remove_unused(
    encoder: nn.Module, executed: set[nn.Module], contributing: set[Any], image: Tensor
) -> None:
    """Remove what never ran, and ends of chains without contributing weights if the rest runs without them.

    HRNet at depth 4 adds the outputs of such chains up, in the size that only the whole chain gives.
    """
    before = {module: dict(module._modules) for module in encoder.modules()}
    _remove_children(encoder, executed, contributing)
    training = encoder.training
    try:
        with torch.no_grad():
            encoder.eval()(image)
    except RuntimeError:
        for module, children in before.items():
            module._modules.clear()
            module._modules.update(children)
        _remove_children(encoder, executed, set())
    finally:
        encoder.train(training)


def _remove_children(parent: nn.Module, executed: set[nn.Module], contributing: set[Any]) -> None:
    """Remove children that never ran, and ends of chains without contributing weights (if any are known)."""
    for name, child in list(parent.named_children()):
        if isinstance(child, nn.Identity):  # HRNet finds the others by their place beside it
            continue
        weights = list(child.parameters())
        idle = bool(contributing and weights) and contributing.isdisjoint(weights)
        if executed.isdisjoint(child.modules()) or (idle and isinstance(parent, nn.Sequential)):
            delattr(parent, name)
        else:
            _remove_children(child, executed, contributing)


class Fp32Conv2d(nn.Conv2d):
    """A convolution that computes in fp32 under bfloat16 autocast on a CPU, and returns autocast's type."""

    def forward(self, images: Tensor) -> Tensor:
        """Convolve [batch, channel, row, col]."""
        kind = images.device.type
        if kind != "cpu" or not torch.is_autocast_enabled(kind):
            return super().forward(images)
        with torch.autocast(kind, enabled=False):
            convolved = super().forward(images.float())
        return convolved.to(torch.get_autocast_dtype(kind))


class Fp32Conv2dSame(Fp32Conv2d, Conv2dSame):
    """The same for timm's convolution that pads as TensorFlow does."""


_FP32_CLASSES: Final[dict[type, type[Fp32Conv2d]]] = {nn.Conv2d: Fp32Conv2d, Conv2dSame: Fp32Conv2dSame}


def use_fp32_depthwise(model: nn.Module) -> None:
    """Let the slow depthwise convolutions of a model compute in fp32.

    Their class is exchanged in place, as `torch.nn.utils.parametrize` does it: names, weights and hooks stay.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and type(layer) in _FP32_CLASSES:
            depthwise = layer.groups == layer.in_channels > 1
            if depthwise and (max(layer.kernel_size) > _FAST_KERNEL or max(layer.stride) > 1):
                layer.__class__ = _FP32_CLASSES[type(layer)]
