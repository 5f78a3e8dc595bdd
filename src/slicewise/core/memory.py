"""How much memory may still be taken, and whether work fits into it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from slicewise.core.disk import MIB
from slicewise.core.errors import ResourceError

_CGROUP: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_V2: Final = ("memory.max", "memory.current", "inactive_file")
_V1: Final = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_MESSAGES: Final = ("can't allocate memory", "not enough memory", "cannot allocate memory", "out of memory")


def available_memory(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Return the bytes that may still be taken: the least of what machine, container and `ulimit -v` leave.

    Containers are asked in both versions of cgroups, at every level above this process. Their file cache
    that nobody uses counts as free.
    """
    import psutil

    limits = [
        int(psutil.virtual_memory().available),
        *_cgroup_free(cgroup, membership),
        *_address_space_free(),
    ]
    return max(0, min(limits))


def require_memory(needed: int, minimum: int, what: str, remedy: str) -> str | None:
    """Compare what work needs with what is there; return a warning where it may not fit, else None.

    Args:
        needed: bytes that the process and its workers are estimated to hold at their peak.
        minimum: bytes without which not even one unit of the work (a case, the smallest batch) fits.
        what: names the work.
        remedy: says which keys make it smaller.

    Raises:
        ResourceError: not even one unit fits, swap included.
    """
    import psutil

    free = available_memory() + int(psutil.Process().memory_info().rss)
    figures = f"and {free / MIB:,.0f} MiB are there; {remedy}"
    if free + int(psutil.swap_memory().free) < minimum:
        raise ResourceError(f"{what} needs at least {minimum / MIB:,.0f} MiB of memory {figures}")
    if free < needed:
        return f"{what} may need {needed / MIB:,.0f} MiB of memory {figures} if it is stopped"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on the CPU or on a GPU. (torch has no type for the CPU's.)"""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _MESSAGES)


def _cgroup_free(cgroup: Path, membership: Path) -> Iterator[int]:
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    own = {controllers: path.strip("/") for _, controllers, path in (line.split(":", 2) for line in lines)}
    for root, path, names in (
        (cgroup, own.get("", ""), _V2),
        (cgroup / "unified", own.get("", ""), _V2),
        (cgroup / "memory", own.get("memory", ""), _V1),
    ):
        inside = Path(path)
        for level in (inside, *inside.parents):
            free = _group_free(root / level, *names)
            if free is not None:
                yield free


def _group_free(folder: Path, limit_name: str, usage_name: str, cache_name: str) -> int | None:
    try:
        limit = int((folder / limit_name).read_text())
        used = int((folder / usage_name).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or "max": no limit at this level
        return None
    return max(0, limit - used + int(stat.get(cache_name, 0)))


def _address_space_free() -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    import psutil

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - int(psutil.Process().memory_info().vms)
