"""What the processor offers this process: cores, as far as container and affinity allow, and bf16."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_CGROUP: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_CPUINFO: Final = Path("/proc/cpuinfo")
_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Of x86 (Cooper Lake, Sapphire Rapids, Zen 4 and later) and, the last one, of ARM"""
_ISA_VARIABLES: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_ISAS_WITHOUT_BF16: Final = frozenset(
    {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
)


def affinity_cores() -> int:
    """Return the number of cores on which the system may schedule this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cores(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Return the number of cores that this process may use: its affinity, and the CPU quota of its container.

    A quota of 1.5 cores counts as 2: two threads then each run for three quarters of the time.
    """
    return max(
        1, min(affinity_cores(), *(math.ceil(quota) for quota in cpu_quotas(cgroup, membership)), 1 << 16)
    )


def cpu_quotas(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> Iterator[float]:
    """Yield the CPU quota, in cores, of every control group above this process (versions 1 and 2)."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    parts = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    own = {name: path.strip("/") for _, controllers, path in parts for name in controllers.split(",")}
    for root, path in (
        (cgroup, own.get("", "")),
        (cgroup / "unified", own.get("", "")),
        (cgroup / "cpu", own.get("cpu", "")),
    ):
        inside = Path(path)
        for level in (inside, *inside.parents):
            quota = _quota(root / level)
            if quota is not None:
                yield quota


def _quota(folder: Path) -> float | None:
    """Return the quota of one group; None where there is none (`max` in version 2, -1 in version 1)."""
    for read in (_quota_v2, _quota_v1):
        try:
            quota, period = read(folder)
        except (OSError, ValueError):
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None


def _quota_v2(folder: Path) -> tuple[int, int]:
    quota, period = (folder / "cpu.max").read_text().split()
    return int(quota), int(period)


def _quota_v1(folder: Path) -> tuple[int, int]:
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    quota, period = (int((folder / name).read_text()) for name in names)
    return quota, period


def has_native_bf16(environment: Mapping[str, str] = os.environ, cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether the processor multiplies bf16 in hardware, and oneDNN may use it.

    oneDNN also computes bf16 on processors with AVX-512 alone, by converting to fp32 and back, more slowly
    than in fp32. Where the flags of the processor cannot be read, the result is False.
    """
    wanted = next((environment[name].upper() for name in _ISA_VARIABLES if environment.get(name)), "")
    return wanted not in _ISAS_WITHOUT_BF16 and bool(processor_flags(cpuinfo) & _BF16_FLAGS)


def processor_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Return the instruction sets that the kernel lists for the first core; none where it lists none."""
    return frozenset(_cpuinfo("flags", cpuinfo).split() or _cpuinfo("Features", cpuinfo).split())


def processor_name(cpuinfo: Path = _CPUINFO) -> str:
    """Return the model of the first core, as the kernel names it."""
    return _cpuinfo("model name", cpuinfo)


def _cpuinfo(key: str, path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next(
        (text.strip() for name, _, text in (line.partition(":") for line in lines) if name.strip() == key), ""
    )
