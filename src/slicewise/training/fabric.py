"""Where and in which precision a stage trains."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from slicewise.compute.precision import Precision, PrecisionSetting, choose_precision
from slicewise.compute.threads import Threads
from slicewise.config.schema import Runtime
from slicewise.core.errors import UsageError

FabricPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells the precision on every start

_NAMES: Final[dict[Precision, FabricPrecision]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def make_fabric(runtime: Runtime, precision: PrecisionSetting) -> Fabric:
    """Return Fabric on one device, in one process.

    The environment is named, because Fabric would otherwise look for a cluster's: with `srun` on the path it
    warns, and in an allocation it takes the number of processes from the variables of Slurm, LSF or torchrun.
    The variables of `fabric run` are hidden, because they override the arguments.

    Raises:
        UsageError: the configured device is not on this machine.
    """
    device = choose_device(runtime.device)
    chosen = choose_precision(precision, device).precision
    with _without_launcher():
        return Fabric(accelerator=device, devices=1, precision=_NAMES[chosen], plugins=LightningEnvironment())


@contextmanager
def _without_launcher() -> Iterator[None]:
    """Hide the variables of `fabric run` (LT_CLI_USED, LT_DEVICES and the like) while the block runs."""
    hidden = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("LT_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def deterministic_kernels(runtime: Runtime, what: str = "training") -> Iterator[Threads]:
    """Set the threads, and use only kernels that give the same bits each time."""
    with (
        Threads(runtime.num_threads, what) as threads,
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        yield threads


def seed_generator(seed: int, device: str) -> None:
    """Seed what the layers of a network draw from, dropout above all.

    `torch.manual_seed` visits every kind of accelerator too, which takes half a millisecond.
    """
    if device == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def choose_device(name: str) -> str:
    """Return the configured device; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: the configured device is not on this machine.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(kind for kind, present in available.items() if present)
    if not available[name]:
        raise UsageError(f"runtime.device is {name}, which this machine does not have; use auto or cpu")
    return name
