"""The processor: cores that this process may use, instruction sets and bf16."""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from slicewise.core.cgroups import CGROUP, MEMBERSHIP, cpu_quotas

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


def usable_cores(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Return the number of cores that this process may use, by its affinity and its container's CPU quota.

    A quota of 1.5 cores counts as 2: two threads then each run for three quarters of the time.
    """
    return max(1, min([affinity_cores(), *map(math.ceil, cpu_quotas(cgroup, membership))]))


def has_native_bf16(environment: Mapping[str, str] = os.environ, cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether the processor multiplies bf16 in hardware and oneDNN may use it; False if unknown.

    oneDNN also computes bf16 on processors with AVX-512 alone, by conversion to fp32, more slowly than fp32.
    """
    max_isa = next((environment[name].upper() for name in _ISA_VARIABLES if environment.get(name)), "")
    return max_isa not in _ISAS_WITHOUT_BF16 and bool(processor_flags(cpuinfo) & _BF16_FLAGS)


def processor_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Return the instruction sets of the first core; empty if unknown."""
    return frozenset(_cpuinfo("flags", cpuinfo).split() or _cpuinfo("Features", cpuinfo).split())


def processor_name(cpuinfo: Path = _CPUINFO) -> str:
    """Return the model name of the first core; empty if unknown."""
    return _cpuinfo("model name", cpuinfo)


def _cpuinfo(key: str, path: Path) -> str:
    with suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            name, _, text = line.partition(":")
            if name.strip() == key:
                return text.strip()
    return ""
