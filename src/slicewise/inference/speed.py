"""How long pipelines take, measured alternately, so that a busy neighbour slows all of them down alike."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from slicewise.core.console import progress

if TYPE_CHECKING:
    from slicewise.inference.pipeline import Pipeline

_SETTLING: Final = 2
"""Calls before each one of a slice that is measured. Waiting threads of torch keep a core busy for some
milliseconds after its own call, which would double the time of the next pipeline"""


def time_slices(
    pipelines: "Sequence[Pipeline]", batch_size: int, repeats: int, title: str
) -> list[list[float]]:
    """Return the milliseconds of a prepared slice in each pipeline, round by round."""
    wanted = pipelines[0].checkpoints[0].preprocessing
    shape = (batch_size, len(wanted.channels), wanted.image_size, wanted.image_size)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    presence = np.ones(shape[1], np.float32)
    calls = [partial(each.predict_slices, images, presence) for each in pipelines]
    measured = alternate(calls, repeats, f"slices, {title}", settling=_SETTLING)
    return [[each / batch_size for each in times] for times in measured]


def alternate(
    calls: Sequence[Callable[[], Any]], repeats: int, title: str, *, settling: int = 0
) -> list[list[float]]:
    """Return the milliseconds of each call; before, all of them are called once, unmeasured.

    Each measurement follows `settling` unmeasured calls of the same.
    """
    for call in calls:
        call()
    measured: list[list[float]] = [[] for _ in calls]
    for _ in progress(range(repeats), desc=title, unit="round"):
        for call, times in zip(calls, measured, strict=True):
            for _ in range(settling):
                call()
            started = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - started))
    return measured
