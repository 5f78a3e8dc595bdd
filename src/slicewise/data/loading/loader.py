"""Batches in the order of an epoch, gathered in a background thread where that is faster."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from slicewise.data.loading.dataset import Batch, SliceDataset
from slicewise.data.loading.sampler import EpochPlan, Indices, plan_epoch, sample_epoch

T = TypeVar("T")
_END = object()


class TrainLoader:
    """The batches of each epoch of one stage; the same arguments always give the same batches."""

    def __init__(
        self,
        dataset: SliceDataset,
        shares: Mapping[str, float],
        *,
        batch_size: int,
        iterations: int,
        key: tuple[int | str, ...],
    ) -> None:
        self.dataset = dataset
        self._pools = {name: dataset.training_pool(name) for name in dataset.source_names}
        available = {name: len(pool) for name, pool in self._pools.items()}
        self.epoch: EpochPlan = plan_epoch(available, shares, batch_size, iterations)
        self._key = key

    def __len__(self) -> int:
        return self.epoch.num_batches

    def order(self, epoch: int) -> list[Indices]:
        """Return the slice numbers of every batch of an epoch, counted from 0."""
        return sample_epoch(self._pools, self.epoch, *self._key, epoch)

    def iterate(
        self, epoch: int, start: int = 0, stop: int | None = None, *, pin: bool = False
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch from number `start` up to `stop`; see `load_batches`."""
        return load_batches(self.dataset, self.order(epoch)[start:stop], pin)


def load_batches(dataset: SliceDataset, order: Iterable[Indices], pin: bool = False) -> Iterator[Batch]:
    """Yield the batches that `order` lists, gathered in the background.

    Without a GPU (`pin`) and with all slices in memory there is no thread: gathering takes a fifth of a
    millisecond, and a second thread costs more.
    """
    gathered = map(dataset.gather, order)
    if pin:
        return prefetch(map(Batch.pin, gathered))
    return gathered if dataset.preloaded else prefetch(gathered)


def sequential_batches(dataset: SliceDataset, batch_size: int) -> list[Indices]:
    """Return batches that hold every slice once, in the dataset's order."""
    return np.split(np.arange(len(dataset)), range(batch_size, len(dataset), batch_size))


def prefetch(items: Iterable[T], depth: int = 3) -> Iterator[T]:
    """Yield `items`, up to `depth` of them made ahead in one thread.

    An error in an item is raised at its place. The thread ends when the consumer stops early.
    """
    iterator = iter(items)
    pool = ThreadPoolExecutor(1, "prefetch")
    try:
        pending: deque[Future[Any]] = deque(pool.submit(next, iterator, _END) for _ in range(depth))
        while (item := pending.popleft().result()) is not _END:
            pending.append(pool.submit(next, iterator, _END))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
