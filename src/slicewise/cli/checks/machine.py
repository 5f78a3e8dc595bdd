"""Cores, memory and the accelerator."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config
from slicewise.core.disk import MIB
from slicewise.core.memory import available_memory
from slicewise.core.processor import has_native_bf16, usable_cores

_TRAINING_MIB = 2560
"""Torch, its libraries and a quick training took 1.5 GiB at their peak; the rest is for the data set."""
_NVIDIA = Path("/dev/nvidiactl")


def cores(config: Config, environment: Mapping[str, str] = os.environ, usable: int | None = None) -> Check:
    """Compare the number of threads with the cores that this process may use."""
    allowed = usable_cores() if usable is None else usable
    threads = config.runtime.num_threads
    summary = f"{allowed} of {os.cpu_count()} usable, {threads or f'up to {allowed}'} threads for the model"
    if threads > allowed:
        advice = f"the container may use {allowed}: set runtime.num_threads={allowed}"
        return Check("cores", "warn", summary, advice)
    env_threads = environment.get("OMP_NUM_THREADS", "")
    if env_threads.isdecimal() and int(env_threads) > allowed:
        return Check(
            "cores", "warn", f"{summary}, OMP_NUM_THREADS={env_threads}", f"export OMP_NUM_THREADS={allowed}"
        )
    return Check("cores", "good", summary)


def memory(config: Config, available: int | None = None) -> Check:
    """Compare the free memory with what a worker and a training need."""
    free = available_memory() if available is None else available
    worker = config.runtime.max_worker_memory_mib * MIB
    summary = f"{free / MIB:,.0f} MiB free"
    if free < worker:
        advice = "end other programs, or lower runtime.max_worker_memory_mib if the volumes are small"
        return Check("memory", "bad", f"{summary}, one worker may need {worker / MIB:,.0f}", advice)
    if free < _TRAINING_MIB * MIB:
        advice = "end other programs, or lower training.batch_size or preprocessing.image_size"
        return Check("memory", "warn", f"{summary}, training may need {_TRAINING_MIB:,}", advice)
    return Check("memory", "good", summary)


def accelerator(config: Config, nvidia: Path = _NVIDIA, platform: str = sys.platform) -> Check:
    """Return the device of the training; torch is imported only where there may be an accelerator."""
    requested = config.runtime.device
    if requested == "cpu" or (requested == "auto" and not nvidia.exists() and platform != "darwin"):
        return Check("device", "good", f"cpu, {'with' if has_native_bf16() else 'without'} bf16 in hardware")
    import torch

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if requested != "auto" and not usable[requested]:
        return Check(
            "device", "bad", f"runtime.device={requested} is not available", "set runtime.device=auto"
        )
    if usable["cuda"]:
        bf16_support = "with" if torch.cuda.is_bf16_supported() else "without"
        return Check("device", "good", f"{torch.cuda.get_device_name()}, {bf16_support} bf16")
    if nvidia.exists():
        advice = "install a torch built for CUDA, or a newer driver; until then the CPU trains"
        return Check("device", "warn", "there is an NVIDIA card that torch cannot use", advice)
    return Check("device", "good", "mps" if usable["mps"] else "cpu")
