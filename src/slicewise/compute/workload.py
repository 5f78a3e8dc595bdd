"""A small training step like that of the models, by which settings of the processor are compared."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Workload = Callable[[], None]


def make_training_step(precision: torch.dtype = torch.float32, side: int = 48) -> Workload:
    """Return a function that takes one training step of a few convolutions.

    Its operations last about as long as those of a U-Net on slices of 96 x 96: threads meet as often.
    Larger images give the arithmetic more weight against the calls of functions. Nothing that is drawn here
    changes what training draws.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(4, 32, 3, stride=2, padding=1, bias=False),
            *_block(32),
        ).to(memory_format=torch.channels_last)
        images = torch.randn(8, 4, side, side).contiguous(memory_format=torch.channels_last)
    enabled = precision != torch.float32

    def step() -> None:
        with torch.enable_grad(), torch.autocast("cpu", precision, enabled=enabled):
            output: Tensor = model(images)
        torch.autograd.backward(output.float().square().mean())

    return step


def _block(width: int) -> tuple[nn.Module, ...]:
    """Return an inverted residual without the residual (Sandler et al. 2018)."""
    inner = 3 * width
    return (
        nn.BatchNorm2d(width),
        nn.Conv2d(width, inner, 1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU6(),
        nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU6(),
        nn.Conv2d(inner, width, 1, bias=False),
    )
