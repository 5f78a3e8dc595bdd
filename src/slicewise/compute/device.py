"""The device that the model runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from slicewise.core.errors import UsageError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(name: DeviceName) -> torch.device:
    """Return the configured device; `auto` is CUDA, else Apple's MPS, else the CPU.

    Raises:
        UsageError: the configured device is not on this machine.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, present in available.items() if present))
    if not available[name]:
        raise UsageError(f"runtime.device is {name}, which this machine does not have; use auto or cpu")
    return torch.device(name)


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute CUDA convolutions in fp32: TF32 rounds to 10 bits, and masks would depend on the device."""
    # `flags` disables what is not passed, cuDNN included.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
