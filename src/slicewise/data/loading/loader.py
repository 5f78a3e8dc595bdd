"""Batches in the order of an epoch, read in the background where that pays."""

from collections.abc import Iterable, Iterator

import numpy as np

from slicewise.config.schema import SourceWeights
from slicewise.data.loading.dataset import PICTURES, VOLUMES, Batch, SliceDataset
from slicewise.data.loading.prefetch import prefetch
from slicewise.data.loading.sampler import EpochPlan, Indices, plan_epoch, sample_epoch


class TrainLoader:
    """The batches of each epoch of one stage; the same arguments always give the same batches."""

    def __init__(
        self,
        dataset: SliceDataset,
        weights: SourceWeights,
        *,
        batch_size: int,
        iterations: int,
        key: tuple[int | str, ...],
    ) -> None:
        self.dataset = dataset
        self._volumes = dataset.training_pool(VOLUMES)
        self._pictures = dataset.training_pool(PICTURES)
        available = (len(self._volumes), len(self._pictures))
        self.epoch: EpochPlan = plan_epoch(available, weights, batch_size, iterations)
        self._key = key

    def __len__(self) -> int:
        return self.epoch.num_batches

    def order(self, epoch: int) -> list[Indices]:
        """Return the slice numbers of every batch of an epoch, counted from 0."""
        return sample_epoch(self._volumes, self._pictures, self.epoch, *self._key, epoch)

    def iterate(
        self, epoch: int, start: int = 0, stop: int | None = None, *, pin: bool = False
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch from number `start` up to `stop`; see `load_batches`."""
        return load_batches(self.dataset, self.order(epoch)[start:stop], pin)


def load_batches(dataset: SliceDataset, order: Iterable[Indices], pin: bool = False) -> Iterator[Batch]:
    """Yield the batches that `order` lists.

    Each is gathered in the background while the last one is used, unless all slices are in memory and no GPU
    does the work: then gathering takes a fifth of a millisecond, and a thread that holds up the other one
    costs more.
    """
    gathered = map(dataset.gather, order)
    if pin:
        return prefetch(map(Batch.pin, gathered))
    return gathered if dataset.preloaded else prefetch(gathered)


def sequential_batches(dataset: SliceDataset, batch_size: int) -> list[Indices]:
    """Return batches that hold every slice once, in the dataset's order."""
    return np.split(np.arange(len(dataset)), range(batch_size, len(dataset), batch_size))
