"""Is one network better than another, or were the validation patients kind to it?"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema.training import Monitor
from slicewise.data.batches import SOURCES, SliceDataset
from slicewise.training.validation import (
    SliceScores,
    average_area,
    monitored,
    patient_dice,
    source_area,
)

Without = list[list[float]]
"""The monitored figure without each patient in turn, one row for each source that has patients."""

_CONFIDENCE: Final = 0.95


def leave_one_out(dataset: SliceDataset, scores: SliceScores, monitor: Monitor) -> Without:
    """Return the monitored figure without each patient, or family of pictures, in turn.

    An area that is undefined without one of them counts as chance, 0.5: where one alone is healthy, nothing
    is clear.
    """
    dice = patient_dice(dataset, scores) if "dice" in monitor else {}
    areas = [source_area(dataset, scores.class_logits, source) for source in range(len(SOURCES))]
    table: Without = []
    for source in range(len(SOURCES)):
        row = []
        for patients, rows in _groups(dataset, source):
            others = [value for name, value in dice.items() if name not in patients]
            theirs = source_area(dataset, scores.class_logits, source, ~rows) if "auc" in monitor else None
            metrics = {"dice": float(np.mean(others)) if others else 0.5}
            metrics |= average_area([theirs if place == source else area for place, area in enumerate(areas)])
            row.append(monitored(metrics, monitor))
        table += [row] if row else []
    return table


def standard_error(start: Without, now: Without) -> float:
    """Return the standard error of the gain from `start` to `now`, both from `leave_one_out`.

    The jackknife (Efron and Stein 1981), each source a stratum of its own. 0 where every source has one
    patient, who shows no spread.
    """
    return float(np.sqrt(sum((len(gains) - 1) * np.var(gains) for gains in _gains(start, now))))


def is_clear(gain: float, start: Without, now: Without, looks: int = 1) -> bool:
    """Whether a gain would also be one on other patients, with a confidence of 95 %.

    By the t of Student (1908), one-sided, with the degrees of freedom of the smallest source whose patients
    differ. Where none do, as where there is one patient, there is no spread to see, and any gain will do.

    Args:
        gain: of the monitored figure.
        start: of the network that is there, from `leave_one_out`.
        now: of the one that may replace it.
        looks: how many networks are looked at, each of which might be the lucky one (Bonferroni).
    """
    from scipy.stats import t as student

    sizes = [len(row) for row, gains in zip(start, _gains(start, now), strict=True) if np.ptp(gains) > 0]
    if not sizes:
        return gain > 0
    factor = student.isf((1 - _CONFIDENCE) / looks, min(sizes) - 1)
    return gain > float(factor) * standard_error(start, now)


def _gains(start: Without, now: Without) -> list[NDArray[np.float64]]:
    return [np.subtract(after, before) for before, after in zip(start, now, strict=True)]


def _groups(dataset: SliceDataset, source: int) -> Iterator[tuple[set[tuple[str, str]], NDArray[np.bool_]]]:
    """Yield the patients of a group that the split keeps together, and which slices are theirs."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number in np.unique(dataset.case_of[dataset.sources == source]):
        case = dataset.cases[number]
        groups.setdefault((case.key.source, case.group), []).append(int(number))
    for numbers in groups.values():
        keys = [dataset.cases[number].key for number in numbers]
        yield {(key.source, key.patient) for key in keys}, np.isin(dataset.case_of, numbers)
