"""The precision that training computes in: as configured, or the faster of fp32 and bf16 on this machine."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import torch

from slicewise.compute.workload import Workload, make_training_step
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, write_json
from slicewise.core.hashing import digest
from slicewise.core.processor import has_native_bf16, processor_flags, processor_name

Precision = Literal["fp32", "bf16", "fp16"]
PrecisionSetting = Literal["auto", "fp32", "bf16", "fp16"]

_MIN_RATIO: Final = 1.0
"""From this ratio of speeds on, bf16 is used"""
_REPEATS: Final = 12
_MAX_OTHER_ENTRIES: Final = 31
"""Other machines, or versions of torch, that are remembered beside this one"""
_ISA_VARIABLES: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")

log = logging.getLogger(__name__)


class PrecisionChoice(NamedTuple):
    """A precision, and why it is used."""

    precision: Precision
    reason: str


def choose_precision(wanted: PrecisionSetting, device: str, cache: Path | None = None) -> PrecisionChoice:
    """Return the precision that `training.precision` stands for on a device.

    Args:
        wanted: `auto` takes bf16 where the hardware multiplies in it and a short measurement finds it faster.
        device: `cpu`, `cuda` or `mps`.
        cache: file in which the measurement is remembered; by default in the user's folder of caches.
    """
    if device == "cpu" and wanted in ("auto", "fp16"):
        precision, reason = _cpu_precision(cache or _cache_path())
        return PrecisionChoice(precision, f"fp16 is for GPUs; {reason}" if wanted == "fp16" else reason)
    if wanted != "auto":
        emulated = device == "cpu" and wanted == "bf16" and not has_native_bf16()
        return PrecisionChoice(
            wanted, "as set, though this processor has no bf16 and emulates it" if emulated else "as set"
        )
    if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return PrecisionChoice("bf16", "the GPU computes in it")
    return PrecisionChoice("fp32", "bf16 in hardware is not known of this device")


def _cpu_precision(cache: Path) -> PrecisionChoice:
    if not has_native_bf16():
        return PrecisionChoice("fp32", "the processor has no bf16 in hardware, or oneDNN may not use it")
    key = _machine()
    ratio = _read_ratio(cache, key)
    if ratio is None:
        ratio = speed_ratio(
            make_training_step(torch.float32, side=96), make_training_step(torch.bfloat16, side=96)
        )
        _write_ratio(cache, key, ratio)
    return PrecisionChoice(
        "bf16" if ratio >= _MIN_RATIO else "fp32", f"a step in bf16 is {ratio:.2f} times as fast as in fp32"
    )


def speed_ratio(
    reference: Workload, other: Workload, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return how many times as fast `other` is: the shortest of a few runs, in turn, on one thread.

    The shortest run is the one that other programs disturbed least.
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


def _machine() -> str:
    """Return a digest of all that the ratio depends on."""
    overrides = {name: os.environ.get(name, "") for name in _ISA_VARIABLES}
    return digest([processor_name(), sorted(processor_flags()), torch.__version__, overrides])


def _cache_path() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "slicewise" / "bf16.json"


def _read_ratio(path: Path, key: str) -> float | None:
    """Return the ratio measured earlier; None where there is none, or the file cannot be read."""
    ratio = _read_cache(path).get(key)
    if not isinstance(ratio, (int, float)) or isinstance(ratio, bool) or not 0 < ratio < 1000:
        return None
    return float(ratio)


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        entries = read_json(path)
    except (OSError, WorkspaceError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _write_ratio(path: Path, key: str, ratio: float) -> None:
    """Write the ratio down. That only saves time: a folder that cannot be written is no fault."""
    others = {name: old for name, old in [*_read_cache(path).items()][-_MAX_OTHER_ENTRIES:] if name != key}
    try:
        write_json(path, {**others, key: round(ratio, 3)})
    except (OSError, WorkspaceError) as error:
        log.debug("%s cannot be written: %s", path, error)
