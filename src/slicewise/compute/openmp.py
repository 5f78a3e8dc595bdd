"""How the threads of PyTorch's OpenMP wait for each other: spinning, or asleep.

Between two parallel regions the threads of GNU OpenMP (libgomp) spin for milliseconds, which is fast on a
quiet machine and ruinous on a busy one: a thread that spins keeps its core from the one it waits for. The
variable OMP_WAIT_POLICY decides, but only before the process starts. libgomp also stops spinning as soon as
it manages more threads than there are cores (`gomp_throttled_spin_count_var` in config/linux/wait.h), which
can be brought about at any time: by a second team of threads that sleep. How threads wait changes no result.
"""

import ctypes
import logging
import os
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

from slicewise.core.processor import affinity_cores

_CORES: Final = affinity_cores()
"""When PyTorch was imported, as libgomp counted them"""
_WAIT_VARIABLES: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

log = logging.getLogger(__name__)


def can_set_wait_policy(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether threads can be made to sleep: with libgomp, where the user has not chosen."""
    return not any(environment.get(name) for name in _WAIT_VARIABLES) and _gomp_parallel() is not None


class SleepingTeam:
    """While it exists, threads of libgomp that wait sleep at once.

    Args:
        num_threads: of the teams that work.
    """

    def __init__(self, num_threads: int) -> None:
        self._ready, self._end = threading.Event(), threading.Event()
        size = max(2, _CORES - num_threads + 2)  # one more in all than libgomp counted cores
        self._thread = threading.Thread(target=self._sleep, args=(size,), name="sleeping-team", daemon=True)
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """End the team, which lets the others spin again."""
        self._end.set()
        self._thread.join()

    def _sleep(self, size: int) -> None:
        run_in_parallel = _gomp_parallel()
        if run_in_parallel is not None:
            run_in_parallel(ctypes.CDLL(None).getpid, None, size, 0)  # any function that does nothing
        self._ready.set()
        self._end.wait()


@cache
def _gomp_parallel() -> Callable[..., Any] | None:
    """Return `GOMP_parallel` of the OpenMP that PyTorch runs on; None where that is not libgomp.

    LLVM's OpenMP offers the function too, for programs that GCC compiled.
    """
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        function: Callable[..., Any] = library.GOMP_parallel
    except (OSError, AttributeError):
        return None
    return None if hasattr(library, "__kmpc_fork_call") else function
