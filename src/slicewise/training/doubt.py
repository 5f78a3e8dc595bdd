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

Patient = tuple[str, str]
Without = list[list[float]]
"""The monitored figure without each patient in turn, one row for each source that has patients."""

_CONFIDENCE: Final = 0.95


def leave_one_out(dataset: SliceDataset, scores: SliceScores, monitor: Monitor) -> Without:
    """Return the monitored figure without each patient (each picture) in turn."""
    dice = patient_dice(dataset, scores) if "dice" in monitor else {}
    areas = [source_area(dataset, scores.class_logits, source) for source in range(len(SOURCES))]
    table: Without = []
    for source in range(len(SOURCES)):
        row = []
        for patient, rows in _patients(dataset, source):
            others = [value for name, value in dice.items() if name != patient]
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
    strata = [np.subtract(after, before) for before, after in zip(start, now, strict=True)]
    return float(np.sqrt(sum((len(gains) - 1) * np.var(gains) for gains in strata)))


def is_clear(gain: float, start: Without, now: Without) -> bool:
    """Whether a gain would also be one on other patients, with a confidence of 95 %.

    By the t of Student (1908), one-sided, with the degrees of freedom of the source that has the fewest
    patients, but more than one. Where no source has two, there is no spread to see, and any gain will do.
    """
    from scipy.stats import t as student

    sizes = [len(row) for row in start if len(row) > 1]
    if not sizes:
        return gain > 0
    return gain > float(student.ppf(_CONFIDENCE, min(sizes) - 1)) * standard_error(start, now)


def _patients(dataset: SliceDataset, source: int) -> Iterator[tuple[Patient, NDArray[np.bool_]]]:
    """Yield the patients of a source, and which slices are theirs."""
    cases: dict[Patient, list[int]] = {}
    for number in np.unique(dataset.case_of[dataset.sources == source]):
        key = dataset.cases[number].key
        cases.setdefault((key.source, key.patient), []).append(int(number))
    for patient, numbers in cases.items():
        yield patient, np.isin(dataset.case_of, numbers)
