"""Where and in which precision a stage trains."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from slicewise.config.schema import Runtime
from slicewise.core.errors import UsageError

Precision = Literal["fp32", "bf16", "fp16"]
FabricPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]

log = logging.getLogger(__name__)
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells the precision on every start

_NAMES: Final[dict[Precision, FabricPrecision]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def make_fabric(runtime: Runtime, precision: Precision) -> Fabric:
    """Return Fabric on one device, in one process.

    The environment is named, because Fabric would otherwise look for a cluster's: with `srun` on the path it
    warns, and in an allocation it takes the number of processes from the variables of Slurm, LSF or torchrun.

    Raises:
        UsageError: the device asked for is not on this machine.
    """
    device = _choose_device(runtime.device)
    usable = usable_precision(precision, device)
    if usable != precision:
        log.warning(
            "training.precision=%s is slow or unknown on this %s: using %s", precision, device, usable
        )
    return Fabric(accelerator=device, devices=1, precision=_NAMES[usable], plugins=LightningEnvironment())


def usable_precision(precision: Precision, device: str) -> Precision:
    """Return the precision itself, or the next one that the device computes at full speed."""
    if precision == "fp16" and device == "cpu":
        precision = "bf16"
    if precision == "bf16" and device == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "fp32"
    return precision


@contextmanager
def repeatable(runtime: Runtime) -> Iterator[None]:
    """Use the threads asked for, and only kernels that give the same bits each time."""
    before = torch.get_num_threads()
    torch.set_num_threads(runtime.num_threads or _num_cores())
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            yield
    finally:
        torch.set_num_threads(before)


def seed_draws(seed: int, device: str) -> None:
    """Seed what the layers of a network draw from, dropout above all.

    `torch.manual_seed` visits every kind of accelerator too, which takes half a millisecond.
    """
    if device == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _choose_device(name: str) -> str:
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(kind for kind, present in found.items() if present)
    if not found[name]:
        raise UsageError(f"runtime.device is {name}, which this machine does not have; use auto or cpu")
    return name


def _num_cores() -> int:
    """Cores this process may use, which a container may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
