"""How the threads of PyTorch's OpenMP wait for each other: spinning or sleeping. It changes no result.

Between two parallel regions the threads of GNU OpenMP (libgomp) spin for milliseconds: fast on an idle
machine, very slow on a busy one, where a spinning thread occupies the core of the thread it waits for.
OMP_WAIT_POLICY decides this before the process starts. libgomp also stops spinning while it manages more
threads than there are cores (`gomp_throttled_spin_count_var` in config/linux/wait.h): a second team of
sleeping threads causes that.
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

from slicewise.core.machine import affinity_cores

_CORES: Final = affinity_cores()
"""At the time of the import of PyTorch, as counted by libgomp"""
_WAIT_VARIABLES: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

log = logging.getLogger(__name__)


def can_set_wait_policy(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether threads can be made to sleep: with libgomp, unless the user has set the policy."""
    return not any(environment.get(name) for name in _WAIT_VARIABLES) and _gomp_parallel() is not None


class SleepingTeam:
    """Makes waiting threads of libgomp sleep at once, until it is closed.

    Args:
        num_threads: size of the teams that compute.
    """

    def __init__(self, num_threads: int) -> None:
        self._ready, self._end = threading.Event(), threading.Event()
        size = max(2, _CORES - num_threads + 2)  # in all, one more than libgomp counted cores
        self._thread = threading.Thread(target=self._sleep, args=(size,), name="sleeping-team", daemon=True)
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """End the team; the others spin again."""
        self._end.set()
        self._thread.join()

    def _sleep(self, size: int) -> None:
        run_in_parallel = _gomp_parallel()
        if run_in_parallel is not None:
            run_in_parallel(ctypes.CDLL(None).getpid, None, size, 0)  # any harmless function
        self._ready.set()
        self._end.wait()


@cache
def _gomp_parallel() -> Callable[..., Any] | None:
    """Return `GOMP_parallel` of PyTorch's OpenMP; None where that is not libgomp (LLVM's has it, too)."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        function: Callable[..., Any] = library.GOMP_parallel
    except (OSError, AttributeError):
        return None
    return None if hasattr(library, "__kmpc_fork_call") else function
