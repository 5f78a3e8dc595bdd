"""A pass of the network in double precision, with and without the rounding of fp32 at each operation."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn

from slicewise.config.schema import Config
from slicewise.data.loading.dataset import Batch
from slicewise.models.multitask import MultitaskModel
from slicewise.training.learner import compute_losses, encode_targets

UNIT: Final = 2.0**-24
"""Largest relative error of rounding to fp32"""


def double_pass(config: Config, batch: Batch, rounding: bool = False) -> dict[str, Tensor]:
    """Return a batch's logits in evaluation mode, its loss and the gradient of every weight, in fp64.

    With `rounding` the result of every module is off by up to one unit of rounding of fp32, at random,
    forward and backward: what one operation with a perfect sum would do to it.
    """
    torch.manual_seed(0)
    model = smoothed(MultitaskModel(config.model, config.tasks)).double().train()
    exact = Batch(
        *(tensor.double() if tensor.is_floating_point() else tensor for tensor in vars(batch).values())
    )
    generator = torch.Generator().manual_seed(1)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)  # where the network insists on fp32
        patch.setattr(torch, "float32", torch.float64)
        if rounding:
            for module in model.modules():
                stack.callback(module.register_forward_hook(_rounds(generator)).remove)
        exact = encode_targets(exact, model.tasks)
        exact = replace(exact, masks=exact.masks.double())
        loss = compute_losses(
            model(exact.images, exact.presence),
            exact,
            model.tasks,
            config.stages["joint"].objective,
            config.training,
        )
        torch.autograd.backward(loss.total)
        with torch.no_grad():
            answers = model.eval()(exact.images, exact.presence)
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {
        **gradients,
        "loss": loss.total.detach(),
        "masks": answers["segmentation"],
        "classes": answers["classification"],
    }


def smoothed(model: MultitaskModel) -> MultitaskModel:
    """Exchange what has kinks, in place: beside one, the smallest rounding turns a gradient on or off."""
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.ReLU):
                setattr(parent, name, nn.SiLU())
            elif isinstance(module, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
    return model


def _rounds(generator: torch.Generator) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        noise = torch.rand(output.shape, generator=generator, dtype=output.dtype)
        return output * (1 + UNIT * (2 * noise - 1))

    return hook


def longest_sum(config: Config, batch: Batch) -> int:
    """Return the number of terms of the longest sum: a batch-norm statistic or a weight's gradient."""
    return len(batch.labels) * config.preprocessing.image_size**2
