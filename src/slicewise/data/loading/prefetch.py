"""Work done one item ahead, in a background thread."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yield `items`, made up to `depth` ahead in one thread.

    An error raised there is raised here, at its place in the row. When the consumer stops early, so does the
    thread.
    """
    worker = _Worker(items, depth)
    try:
        while (item := worker.results.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        worker.stop()


class _Worker(Generic[T]):
    def __init__(self, items: Iterable[T], depth: int) -> None:
        self.results: queue.Queue[Any] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(items,), name="prefetch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:
            self._put(_Failure(error))
        else:
            self._put(_END)

    def _put(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self.results.put(item, timeout=0.05)
            except queue.Full:
                continue
            return True
        return False
