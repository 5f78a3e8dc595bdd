"""Model selection: is one model significantly worse than another on the validation patients?"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema.training import Monitor
from slicewise.data.loading.dataset import SOURCES, SliceDataset
from slicewise.training.validation import SliceScores, dice_by_patient, source_auc

PatientValues = dict[str, list[float]]
"""Of each figure the contribution of every patient, or family of pictures, in a fixed order."""

_SIGNIFICANCE: Final = 0.05
_PRIOR_STD: Final = 0.03
"""Standard deviation of one patient's Dice between two trainings of the same recipe (docs/evaluation.md)."""
_PRIOR_DOF: Final = 4
"""Degrees of freedom that the prior is worth."""


def patient_pseudovalues(dataset: SliceDataset, scores: SliceScores, monitor: Monitor) -> PatientValues:
    """Return the monitored figures patient by patient: Dice, and the AUC of each source.

    A value is the jackknife's pseudo-value (Tukey 1958), n times the figure minus (n - 1) times the figure
    without the patient; for Dice, that is the Dice of the patient. An AUC that is undefined without a patient
    counts as chance, 0.5, there. A figure that is undefined as a whole is left out.
    """
    values = {}
    if "dice" in monitor:
        dice = dice_by_patient(dataset, scores)
        groups = _patient_groups(dataset, 0)
        own = [[dice[name] for name in patients if name in dice] for patients, _ in groups]
        values["dice"] = [float(np.mean(found)) for found in own if found]
    if "auc" in monitor:
        aucs = {
            f"auc_{name}": _auc_pseudovalues(dataset, scores, place) for place, name in enumerate(SOURCES)
        }
        values |= aucs
    return {name: row for name, row in values.items() if row}


def is_significantly_worse(current: PatientValues, best: PatientValues) -> bool:
    """Whether one of the figures is significantly lower than it was: a gain in one does not buy a loss.

    A one-sided paired test at 5 %: the moderated t of Smyth (2004), whose variance is that of the patients'
    differences, drawn towards a prior. So it has power with one or two patients, whose own differences show
    no spread or one by luck, and is Student's t with many.
    """
    return any(_is_significant_loss(np.subtract(current[name], values)) for name, values in best.items())


def _is_significant_loss(gains: NDArray[np.float64]) -> bool:
    from scipy.stats import t as student

    count = len(gains)
    dof = _PRIOR_DOF + count - 1
    spread = _PRIOR_DOF * _PRIOR_STD**2 + np.square(gains - gains.mean()).sum()
    standard_error = np.sqrt(spread / dof / count)
    return bool(gains.mean() < -student.isf(_SIGNIFICANCE, dof) * standard_error)


def _auc_pseudovalues(dataset: SliceDataset, scores: SliceScores, source: int) -> list[float]:
    """Return the pseudo-values of one source's AUC; none where the AUC is undefined."""
    whole = source_auc(dataset, scores.class_logits, source)
    if whole is None:
        return []
    without = [
        source_auc(dataset, scores.class_logits, source, ~rows)
        for _, rows in _patient_groups(dataset, source)
    ]
    count = len(without)
    others = (0.5 if auc is None else auc.value for auc in without)
    return [count * whole.value - (count - 1) * value for value in others]


def _patient_groups(
    dataset: SliceDataset, source: int
) -> Iterator[tuple[set[tuple[str, str]], NDArray[np.bool_]]]:
    """Yield the patients of a group that the split keeps together, and which slices are theirs."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number in np.unique(dataset.case_of[dataset.sources == source]):
        case = dataset.cases[number]
        groups.setdefault((case.key.source, case.group), []).append(int(number))
    for numbers in groups.values():
        keys = [dataset.cases[number].key for number in numbers]
        yield {(key.source, key.patient) for key in keys}, np.isin(dataset.case_of, numbers)
