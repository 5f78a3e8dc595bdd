"""Memory and processor: what this process may use, within its containers, and what it uses.

Source of the control groups: Linux kernel, Documentation/admin-guide/cgroup-v1 and cgroup-v2.
"""

import ctypes
import gc
import math
import os
import resource
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from slicewise.core.disk import MIB
from slicewise.core.errors import ResourceError

_CGROUP: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_MEMORY_FILES: Final = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
_NO_MEMORY: Final = ("can't allocate memory", "not enough memory", "cannot allocate memory", "out of memory")
_SAMPLE_SECONDS: Final = 0.2
_MALLOC_OPTIONS: Final = ((-3, 32 << 20), (-1, 1 << 30), (-2, 256 << 20))
"""M_MMAP_THRESHOLD (glibc refuses more than half a heap), M_TRIM_THRESHOLD and M_TOP_PAD"""
_M_ARENA_MAX: Final = -8
_CPUINFO: Final = Path("/proc/cpuinfo")
_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Of x86 (Cooper Lake, Sapphire Rapids, Zen 4 and later) and, the last one, of ARM"""
_ISA_VARIABLES: Final = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_ISAS_WITHOUT_BF16: Final = frozenset(
    {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
)


def available_memory(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Return the bytes that can still be allocated: the least of machine, containers and `ulimit -v`."""
    import psutil  # in functions: light verbs need only the number of cores

    limits = [int(psutil.virtual_memory().available)]
    for folder, version in _control_groups("memory", cgroup, membership):
        with suppress(OSError, ValueError):  # no such group, or "max": no limit
            limit_name, usage_name, cache_name = _MEMORY_FILES[version]
            limit, used = (int((folder / name).read_text()) for name in (limit_name, usage_name))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            limits.append(limit - used + int(stat.get(cache_name, 0)))  # inactive file cache counts as free
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space - int(psutil.Process().memory_info().vms))
    return max(0, min(limits))


def require_memory(needed: int, minimum: int, what: str, remedy: str) -> str | None:
    """Return a warning where work may not fit into free memory, else None.

    Args:
        needed: estimated peak, in bytes, of the process and its workers.
        minimum: bytes that a single unit of the work (a case, the smallest batch) needs.
        what: names the work.
        remedy: says which keys make it smaller.

    Raises:
        ResourceError: not even one unit fits, swap included.
    """
    import psutil

    free = available_memory() + int(psutil.Process().memory_info().rss)
    figures = f"and {free / MIB:,.0f} MiB are free; {remedy}"
    if free + int(psutil.swap_memory().free) < minimum:
        raise ResourceError(f"{what} needs at least {minimum / MIB:,.0f} MiB of memory {figures}")
    if free < needed:
        return f"{what} may need {needed / MIB:,.0f} MiB of memory {figures} if it is killed"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the CPU or on a GPU. (torch has no exception type for the CPU.)"""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


class MemoryMonitor:
    """Samples the resident memory of this process and its children while the block runs."""

    def __init__(self) -> None:
        self.peak_bytes = self._start_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory-watch", daemon=True)

    def __enter__(self) -> Self:
        self.peak_bytes = self._start_bytes = resident_bytes(os.getpid()) or 0
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_mib(self) -> int:
        return round(self.peak_bytes / MIB)

    @property
    def growth_bytes(self) -> int:
        """Peak minus the memory held before the block."""
        return self.peak_bytes - self._start_bytes

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, resident_bytes(os.getpid()) or 0)
            if self._stop.wait(_SAMPLE_SECONDS):
                return


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process and its children; None where there is no such process."""
    import psutil

    try:
        process = psutil.Process(pid)
        members = [process, *process.children(recursive=True)]
    except psutil.Error:
        return None
    total = 0
    for member in members:
        with suppress(psutil.Error):  # it ended after it was listed
            total += member.memory_info().rss
    return total


def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed buffers; return whether it accepted. Other C libraries are left alone.

    Activations of tens of MiB are freed and allocated again in every iteration, and returning them costs page
    faults: the same training step ran 1.17 times as fast without them.
    """
    return _set_malloc_options(_MALLOC_OPTIONS)


def share_heaps(number: int = 2) -> bool:
    """Let all threads use so many heaps of glibc, and return whether it accepted.

    By default there are eight for each core, and each keeps what was freed in it: memory that the other
    threads of a server do not get.
    """
    return _set_malloc_options([(_M_ARENA_MAX, number)])


def _set_malloc_options(options: Iterable[tuple[int, int]]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    accepted = [mallopt(parameter, value) == 1 for parameter, value in options]  # all of them are set
    return all(accepted)


def trim_memory() -> None:
    """Collect garbage and return freed memory to the system where the C library can (glibc's malloc_trim)."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def affinity_cores() -> int:
    """Return the number of cores on which the system may schedule this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cores(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Return the number of cores that this process may use, by its affinity and its container's CPU quota.

    A quota of 1.5 cores counts as 2: two threads then each run for three quarters of the time.
    """
    return max(1, min([affinity_cores(), *map(math.ceil, cpu_quotas(cgroup, membership))]))


def cpu_quotas(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> Iterator[float]:
    """Yield the CPU quota, in cores, of each control group that has one."""
    for folder, version in _control_groups("cpu", cgroup, membership):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        with suppress(OSError, ValueError):  # no such group, or "max": no limit
            quota, period = (int(word) for name in names for word in (folder / name).read_text().split())
            if quota > 0 and period > 0:
                yield quota / period


def _control_groups(controller: str, cgroup: Path, membership: Path) -> Iterator[tuple[Path, int]]:
    """Yield (folder, version) of every control group from that of this process up to the root."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    parts = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    own = {name: Path(path.strip("/")) for _, names, path in parts for name in names.split(",")}
    roots = ((cgroup, "", 2), (cgroup / "unified", "", 2), (cgroup / controller, controller, 1))
    for root, name, version in roots:
        group = own.get(name, Path())
        for level in (group, *group.parents):
            yield root / level, version


def has_native_bf16(environment: Mapping[str, str] = os.environ, cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether the processor multiplies bf16 in hardware and oneDNN may use it; False if unknown.

    oneDNN also computes bf16 on processors with AVX-512 alone, by conversion to fp32, more slowly than fp32.
    """
    max_isa = next((environment[name].upper() for name in _ISA_VARIABLES if environment.get(name)), "")
    return max_isa not in _ISAS_WITHOUT_BF16 and bool(processor_flags(cpuinfo) & _BF16_FLAGS)


def processor_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Return the instruction sets of the first core; empty if unknown."""
    return frozenset((_cpuinfo("flags", cpuinfo) or _cpuinfo("Features", cpuinfo)).split())


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
