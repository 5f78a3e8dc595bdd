"""Which slices are used: evenly spaced ones, and those of a case for training."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def select_training_slices(
    labels: NDArray[np.int8], healthy_ratio: float, max_train_slices: int
) -> NDArray[np.bool_]:
    """Return a mask [S] of the tumour slices and at most `healthy_ratio` as many healthy ones, evenly spaced.

    A case without tumour gives healthy slices up to `max_train_slices`. Where both kinds together exceed that
    limit, each keeps its share of it.
    """
    tumour, healthy = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
    num_tumour = len(tumour)
    num_healthy = min(len(healthy), round(healthy_ratio * num_tumour)) if num_tumour else len(healthy)
    total = num_tumour + num_healthy
    if total > max_train_slices:
        num_tumour = -(-num_tumour * max_train_slices // total)
        num_healthy = max_train_slices - num_tumour
    chosen = np.zeros(len(labels), np.bool_)
    chosen[select_evenly(tumour, num_tumour)] = True
    chosen[select_evenly(healthy, num_healthy)] = True
    return chosen


def select_evenly(positions: NDArray[Any], count: int, turn: int = 0) -> NDArray[Any]:
    """Return `count` of the positions, each from the middle of one of `count` equal stretches.

    Args:
        positions: in their order.
        count: at most the number of positions.
        turn: shifts the choice; after ceil(positions / count) turns each position was chosen.
    """
    size, at_least_one = len(positions), max(count, 1)
    middles = (np.arange(count) * 2 + 1) * size // (2 * at_least_one)
    num_turns = max(-(-size // at_least_one), 1)
    return positions[(middles + turn % num_turns) % max(size, 1)]
