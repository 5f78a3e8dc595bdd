"""Some slices of many, evenly spaced."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def select_evenly(positions: NDArray[Any], count: int, turn: int = 0) -> NDArray[Any]:
    """Return `count` of the positions, spread evenly from the middle of each stretch.

    Args:
        positions: in their order.
        count: at most as many as there are.
        turn: other turns take others; after ceil(positions / count) of them each position has had its own.
    """
    size, at_least_one = len(positions), max(count, 1)
    middles = (np.arange(count) * 2 + 1) * size // (2 * at_least_one)
    num_turns = max(-(-size // at_least_one), 1)
    return positions[(middles + turn % num_turns) % max(size, 1)]
