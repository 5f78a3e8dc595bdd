"""Peak memory of a step, worker processes included."""

import os
import threading
from contextlib import suppress
from typing import Self

_INTERVAL_SECONDS = 0.2


class MemoryMonitor:
    """Samples the resident memory of this process and its children while the block runs."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._start_bytes = 0
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
        return round(self.peak_bytes / (1 << 20))

    @property
    def growth_bytes(self) -> int:
        """Peak minus the memory held before the block."""
        return self.peak_bytes - self._start_bytes

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, resident_bytes(os.getpid()) or 0)
            if self._stop.wait(_INTERVAL_SECONDS):
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
