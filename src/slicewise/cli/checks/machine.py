"""Cores, memory, the accelerator, and what the demo needs of the machine."""

import os
import shutil
import socket
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config
from slicewise.core.disk import MIB
from slicewise.core.processor import has_native_bf16, usable_cores

_TRAINING_MIB = 2560
"""Torch, its libraries and a quick training took 1.5 GiB at their peak; the rest is held back for the set."""
_NVIDIA = Path("/dev/nvidiactl")


def cores(config: Config, environment: Mapping[str, str] = os.environ, usable: int | None = None) -> Check:
    """Compare the threads that will start with the cores that this process may use."""
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
    """Compare the memory that is free with what one worker and a training take."""
    from slicewise.core.memory import available_memory

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
    """Say on what training runs; torch is asked only where there may be more than a CPU."""
    requested = config.runtime.device
    if requested == "cpu" or (requested == "auto" and not nvidia.exists() and platform != "darwin"):
        return Check("device", "good", f"cpu, {'with' if has_native_bf16() else 'without'} bf16 in hardware")
    import torch

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if requested != "auto" and not usable[requested]:
        return Check("device", "bad", f"runtime.device={requested} is not here", "set runtime.device=auto")
    if usable["cuda"]:
        bf16_support = "with" if torch.cuda.is_bf16_supported() else "without"
        return Check("device", "good", f"{torch.cuda.get_device_name()}, {bf16_support} bf16")
    if nvidia.exists():
        advice = "install a torch built for CUDA, or a newer driver; until then the CPU trains"
        return Check("device", "warn", "there is an NVIDIA card that torch cannot use", advice)
    return Check("device", "good", "mps" if usable["mps"] else "cpu")


_NO_DEMO = "not needed: the demo takes no part in this run"


def ports(config: Config, *, of_our_demo: Collection[int] = (), wants_demo: bool = True) -> Check:
    """Check that the demo's ports are free, or taken by the demo of this workspace, which is replaced."""
    if not wants_demo:
        return Check("ports", "good", _NO_DEMO)
    from slicewise.serving.endpoints import HOST

    requested = {"api_port": config.serving.api_port, "page_port": config.serving.page_port}
    names = ", ".join(map(str, requested.values()))
    busy = {
        key: port for key, port in requested.items() if port not in of_our_demo and not _is_free(HOST, port)
    }
    if busy:
        advice = "end the other program, or: " + " ".join(f"serving.{k}={p + 10}" for k, p in busy.items())
        return Check("ports", "bad", f"taken: {', '.join(map(str, busy.values()))}", advice)
    if {*requested.values()} <= {*of_our_demo}:
        return Check("ports", "good", f"{names}, in use by this workspace's demo")
    others = ", ".join(str(port) for port in sorted({*of_our_demo}))
    return Check(
        "ports", "good", f"{names} free" + (f"; this workspace's demo is on {others}" if others else "")
    )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def supervisor(config: Config, *, wants_demo: bool = True) -> Check:
    """Say who will keep the demo alive."""
    if not wants_demo:
        return Check("supervisor", "good", _NO_DEMO)
    requested, pm2 = config.serving.supervisor, shutil.which("pm2")
    if pm2 and requested != "builtin":
        if shutil.which("node"):
            return Check("supervisor", "good", "pm2")
        return Check(
            "supervisor", "bad", "pm2 without node", "install Node.js, or serving.supervisor=builtin"
        )
    if requested == "pm2":
        advice = "npm install -g pm2, or set serving.supervisor=auto"
        return Check("supervisor", "bad", "serving.supervisor=pm2 is not installed", advice)
    return Check("supervisor", "good", "SliceWise itself")
