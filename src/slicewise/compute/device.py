"""The device, and the precision of training: as configured, or the faster of fp32 and bf16 on the device."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch

from slicewise.compute.threads import Workload, make_training_step
from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.files import read_json, write_json
from slicewise.core.hashing import digest
from slicewise.core.machine import has_native_bf16, processor_flags, processor_name

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16", "fp16"]
PrecisionSetting = Literal["auto", "fp32", "bf16", "fp16"]

_MIN_RATIO: Final = 1.0
"""Smallest ratio of speeds at which bf16 is used"""
_REPEATS: Final = 12
_MAX_OTHER_ENTRIES: Final = 31
"""Cached ratios of other machines or versions of torch"""
_ISA_VARIABLES: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")

log = logging.getLogger(__name__)


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


class PrecisionChoice(NamedTuple):
    """A precision, and why it is used."""

    precision: Precision
    reason: str


def choose_precision(wanted: PrecisionSetting, device: str, cache: Path | None = None) -> PrecisionChoice:
    """Return the precision for `training.precision` on a device: `cpu`, `cuda` or `mps`.

    `auto` is bf16 where the hardware supports it and a short measurement finds it faster. Measurements are
    kept in the JSON file `cache`, by default `slicewise/bf16.json` in the user's cache folder.
    """
    if device == "cpu" and wanted in ("auto", "fp16"):
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        precision, reason = _cpu_precision(cache or caches / "slicewise" / "bf16.json")
        return PrecisionChoice(precision, f"fp16 is for GPUs; {reason}" if wanted == "fp16" else reason)
    if wanted != "auto":
        emulated = device == "cpu" and wanted == "bf16" and not has_native_bf16()
        return PrecisionChoice(
            wanted, "as set, though this processor has no bf16 and emulates it" if emulated else "as set"
        )
    if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return PrecisionChoice("bf16", "the GPU supports it")
    return PrecisionChoice("fp32", "this device is not known to support bf16 in hardware")


def _cpu_precision(cache: Path) -> PrecisionChoice:
    if not has_native_bf16():
        return PrecisionChoice("fp32", "the processor has no bf16 in hardware, or oneDNN may not use it")
    key, ratios = _machine_key(), _read_ratios(cache)
    ratio = ratios.get(key)
    if ratio is None:
        ratio = speed_ratio(
            make_training_step(torch.float32, side=96), make_training_step(torch.bfloat16, side=96)
        )
        try:
            write_json(cache, {**dict([*ratios.items()][-_MAX_OTHER_ENTRIES:]), key: round(ratio, 3)})
        except (OSError, WorkspaceError) as error:  # the cache only saves time
            log.debug("%s cannot be written: %s", cache, error)
    return PrecisionChoice(
        "bf16" if ratio >= _MIN_RATIO else "fp32", f"a step in bf16 is {ratio:.2f} times as fast as in fp32"
    )


def _machine_key() -> str:
    """Return a digest of everything that the ratio depends on."""
    overrides = {name: os.environ.get(name, "") for name in _ISA_VARIABLES}
    return digest([processor_name(), sorted(processor_flags()), torch.__version__, overrides])


def _read_ratios(path: Path) -> dict[str, float]:
    """Return the valid ratios of the cache by machine; empty where it cannot be read."""
    try:
        return {key: ratio for key, ratio in dict(read_json(path)).items() if 0 < ratio < 1000}
    except (OSError, WorkspaceError, TypeError, ValueError):
        return {}


def speed_ratio(
    reference: Workload, other: Workload, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return how many times as fast as `reference` `other` is, on one thread.

    The shortest of several runs, in turn, counts: other programs disturbed it least.
    """
    before, shortest = torch.get_num_threads(), [float("inf"), float("inf")]
    torch.set_num_threads(1)
    try:
        for number in range(_REPEATS + 1):
            for position, work in enumerate((reference, other)):
                started = clock()
                work()
                if number:  # the first run compiles its kernels
                    shortest[position] = min(shortest[position], clock() - started)
    finally:
        torch.set_num_threads(before)
    return shortest[0] / shortest[1]
