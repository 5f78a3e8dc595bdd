"""The slices of each batch of an epoch: a pure function of seed, stage and epoch."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import SourceWeights
from slicewise.core.errors import TrainingError
from slicewise.core.hashing import digest
from slicewise.imaging.slice_selection import select_evenly

Indices = NDArray[np.int64]


def derive_seed(*parts: int | str) -> int:
    """Return a 60-bit seed that depends only on the parts, the same in every process."""
    return int(digest(list(parts))[:15], 16)


@dataclass(frozen=True)
class SlicePool:
    """The training slices of one source, in rounds of `len(pool)`.

    Of a case with more slices than its share, each round takes others, evenly spaced.
    """

    constant: Indices
    """Slices that are in every round"""
    rotating: tuple[tuple[Indices, int], ...] = ()
    """Slices of which a round has some, and their number"""

    def __len__(self) -> int:
        return len(self.constant) + sum(count for _, count in self.rotating)

    def round(self, number: int) -> Indices:
        """Return the slices of a round, counted from 0: the first has those that preprocessing marked."""
        return np.concatenate(
            [self.constant, *(select_evenly(*group, turn=number) for group in self.rotating)]
        )


@dataclass(frozen=True)
class EpochPlan:
    """The number of slices of each source, and of batches."""

    num_volumes: int
    num_pictures: int
    num_batches: int


def plan_epoch(
    available: tuple[int, int], weights: SourceWeights, batch_size: int, iterations: int = 0
) -> EpochPlan:
    """Return the size of an epoch in which each source has its share.

    Args:
        available: number of training slices of volumes and of pictures; the share of a source that has none
            goes to the other.
        weights: shares of the sources.
        batch_size: largest number of slices in a batch.
        iterations: number of batches; 0: one round of the volumes (of the pictures, where the volumes have no
            share).

    Raises:
        TrainingError: fewer than two slices: batch normalisation needs more than one image.
    """
    volumes = weights.volumes if available[0] else 0.0
    pictures = weights.pictures if available[1] else 0.0
    share = volumes / (volumes + pictures) if volumes + pictures else float(available[0] > 0)
    if iterations:
        num_slices, num_batches = iterations * batch_size, iterations
    else:
        num_slices = round(available[0] / share) if share else available[1]
        # Batches of nearly equal size, so that none is left with a single slice.
        num_batches = min(math.ceil(num_slices / batch_size), max(1, num_slices // 2))
    if num_slices < 2:
        raise TrainingError(
            f"an epoch has {num_slices} training slices and needs at least 2; "
            "raise scale.min_patients or training.iterations_per_epoch"
        )
    num_volumes = round(num_slices * share)
    return EpochPlan(num_volumes, num_slices - num_volumes, num_batches)


def sample_epoch(volumes: SlicePool, pictures: SlicePool, epoch: EpochPlan, *key: int | str) -> list[Indices]:
    """Return the batches of an epoch as arrays of slice indices, each source spread evenly over them.

    Within a source, slices come from its shuffled rounds, which continue from epoch to epoch: none is
    repeated before its round is complete. `key` is seed, stage and, last, the number of the epoch from 0.
    """
    *base, number = key
    volume_draw = _draw_slices(volumes, epoch.num_volumes, int(number), ("volumes", *base))
    picture_draw = _draw_slices(pictures, epoch.num_pictures, int(number), ("pictures", *base))
    order = np.random.default_rng(derive_seed("batch", *key))
    edges = _batch_edges(epoch.num_volumes + epoch.num_pictures, epoch.num_batches)
    cuts = _batch_edges(epoch.num_volumes, epoch.num_batches)
    parts = zip(np.split(volume_draw, cuts[1:-1]), np.split(picture_draw, (edges - cuts)[1:-1]), strict=True)
    return [order.permutation(np.concatenate(pair)) for pair in parts]


def _batch_edges(count: int, num_batches: int) -> Indices:
    return np.arange(num_batches + 1, dtype=np.int64) * count // num_batches


def _draw_slices(pool: SlicePool, count: int, epoch: int, base: tuple[int | str, ...]) -> Indices:
    """Return `count` indices of the endless sequence of shuffled rounds, from `epoch * count` on."""
    if count == 0:
        return np.empty(0, np.int64)
    first = epoch * count
    rounds = range(first // len(pool), (first + count - 1) // len(pool) + 1)
    row = [
        np.random.default_rng(derive_seed(*base, number)).permutation(pool.round(number)) for number in rounds
    ]
    skip = first - rounds.start * len(pool)
    return np.concatenate(row)[skip : skip + count]
