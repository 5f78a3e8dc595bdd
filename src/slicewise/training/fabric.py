"""The device, precision and kernels that a stage trains with."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from slicewise.compute.device import choose_device
from slicewise.compute.precision import Precision, PrecisionSetting, choose_precision
from slicewise.compute.threads import Threads
from slicewise.config.schema import Runtime

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it logs the precision on every start

_FABRIC_PRECISION: Final[dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]]] = {
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
    device = choose_device(runtime.device).type
    fabric_precision = _FABRIC_PRECISION[choose_precision(precision, device).precision]
    with _without_launcher():
        return Fabric(
            accelerator=device, devices=1, precision=fabric_precision, plugins=LightningEnvironment()
        )


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
