"""Peak memory of a step, worker processes included."""

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from psutil import Process

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_mib(self) -> int:
        return round(self.peak_bytes / (1 << 20))

    @property
    def growth_bytes(self) -> int:
        """How far the peak lies above what was held before the block."""
        return self.peak_bytes - self._start_bytes

    def _sample(self) -> None:
        import psutil

        process = psutil.Process()
        while True:
            self.peak_bytes = max(self.peak_bytes, _resident(process))
            if self._stop.wait(_INTERVAL_SECONDS):
                return


def resident_bytes(pid: int) -> int | None:
    """Return what a process and its children hold in memory now; None where there is no such process."""
    import psutil

    try:
        return _resident(psutil.Process(pid))
    except psutil.Error:
        return None


def _resident(process: "Process") -> int:
    import psutil

    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_info().rss
        except psutil.Error:  # it ended between the listing and the look
            continue
    return total
