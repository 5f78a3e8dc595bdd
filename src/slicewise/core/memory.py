"""How much memory is free, and whether work fits into it."""

import resource
from pathlib import Path
from typing import Final

import psutil

from slicewise.core.cgroups import CGROUP, MEMBERSHIP, free_memory
from slicewise.core.disk import MIB
from slicewise.core.errors import ResourceError

_MESSAGES: Final = ("can't allocate memory", "not enough memory", "cannot allocate memory", "out of memory")


def available_memory(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Return the bytes that can still be allocated: the least of machine, containers and `ulimit -v`."""
    limits = [int(psutil.virtual_memory().available), *free_memory(cgroup, membership)]
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
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _MESSAGES)
