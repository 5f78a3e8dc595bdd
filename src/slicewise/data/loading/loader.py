"""The batches of each epoch: a pure function of seed, stage and epoch, gathered in the background."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np

from slicewise.core.errors import TrainingError
from slicewise.core.hashing import digest
from slicewise.data.loading.dataset import Batch, Indices, SliceDataset, SlicePool

T = TypeVar("T")
_END = object()


def derive_seed(*parts: int | str) -> int:
    """Return a 60-bit seed that depends only on the parts, the same in every process."""
    return int(digest(list(parts))[:15], 16)


@dataclass(frozen=True)
class EpochPlan:
    """The number of slices of each source, and of batches."""

    num_slices: Mapping[str, int]
    num_batches: int


def plan_epoch(
    available: Mapping[str, int], shares: Mapping[str, float], batch_size: int, iterations: int = 0
) -> EpochPlan:
    """Return the size of an epoch in which each source has its share.

    Args:
        available: number of training slices of each source, in order.
        shares: of the sources; that of one without slices goes to the others in proportion. Where none of
            them has any, all sources with slices have equal shares.
        batch_size: largest number of slices in a batch.
        iterations: number of batches; 0: one round of the first source with a share.

    Raises:
        TrainingError: fewer than two slices: batch normalisation needs more than one image.
    """
    used = {name: shares.get(name, 0.0) for name, count in available.items() if count}
    if not any(used.values()):
        used = dict.fromkeys(used, 1.0)
    total = sum(used.values())
    if iterations and used:
        num_slices, num_batches = iterations * batch_size, iterations
    else:
        first = next((name for name, share in used.items() if share), None)
        num_slices = round(available[first] / (used[first] / total)) if first else 0
        # Batches of nearly equal size, so that none is left with a single slice.
        num_batches = min(math.ceil(num_slices / batch_size), max(1, num_slices // 2))
    if num_slices < 2:
        raise TrainingError(
            f"an epoch has {num_slices} training slices and needs at least 2; "
            "use more patients (--num-patients), or raise training.iterations_per_epoch"
        )
    edges = [round(num_slices * (share / total)) for share in accumulate(used.values(), initial=0.0)]
    counts = [after - before for before, after in pairwise(edges)]
    return EpochPlan(dict.fromkeys(available, 0) | dict(zip(used, counts, strict=True)), num_batches)


def sample_epoch(pools: Mapping[str, SlicePool], epoch: EpochPlan, *key: int | str) -> list[Indices]:
    """Return the batches of an epoch as arrays of slice indices, each source spread evenly over them.

    Within a source, slices come from its shuffled rounds, which continue from epoch to epoch: none is
    repeated before its round is complete. `key` is seed, stage and, last, the number of the epoch from 0.
    """
    *base, number = key
    order = np.random.default_rng(derive_seed("batch", *key))
    steps = np.arange(epoch.num_batches + 1, dtype=np.int64)
    parts, drawn = [], 0
    for name, count in epoch.num_slices.items():
        draw = _draw_slices(pools[name], count, int(number), (name, *base))
        before, drawn = drawn, drawn + count
        edges = steps * drawn // epoch.num_batches - steps * before // epoch.num_batches
        parts.append(np.split(draw, edges[1:-1]))
    return [order.permutation(np.concatenate(batch)) for batch in zip(*parts, strict=True)]


def _draw_slices(pool: SlicePool, count: int, epoch: int, base: tuple[int | str, ...]) -> Indices:
    """Return `count` indices of the endless sequence of shuffled rounds, from `epoch * count` on."""
    if count == 0:
        return np.empty(0, np.int64)
    start, skip = divmod(epoch * count, len(pool))
    row = [
        np.random.default_rng(derive_seed(*base, number)).permutation(pool.round(number))
        for number in range(start, start + -(-(skip + count) // len(pool)))
    ]
    return np.concatenate(row)[skip : skip + count]


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
