"""Model selection: which epoch of a stage is kept, and when the stage stops early.

The latest epoch is kept unless it is significantly worse on the validation patients than the best one so far.
The learning rate falls to the end of a stage, so the latest epoch is expected to be the best; the highest of
several scores on few patients is so by luck as well.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from slicewise.config.schema import Config, Stage
from slicewise.config.schema.training import Monitor
from slicewise.data.loading.dataset import SliceDataset
from slicewise.training.objective import trained_tasks
from slicewise.training.state import Progress
from slicewise.training.validation import SliceScores, Validation, dice_by_patient, source_auc

PatientValues = dict[str, list[float]]
"""Of each monitored metric the contribution of every patient, or family of pictures, in a fixed order"""

_SIGNIFICANCE: Final = 0.05
_PRIOR_STD: Final = 0.03
"""Standard deviation of one patient's Dice between two trainings of the same recipe (docs/evaluation.md)"""
_PRIOR_DOF: Final = 4
"""Degrees of freedom that the prior is worth"""


def may_keep_initial_weights(config: Config, name: str) -> bool:
    """Whether a stage may keep the weights that it begins with in place of those of its epochs.

    Not where the last epoch is kept in any case, and not where the stage trains a task that no stage before
    it has trained: random weights may score well by luck. Weights of another run (`training.start_from`)
    count as trained for the tasks of the first stage.
    """
    stage = config.stages[name]
    if stage.monitor == "last":
        return False
    trained_before: set[str] = set()
    before: str | None = stage.starts_from or name
    while before is not None:
        earlier = config.stages[before]
        trained_before |= trained_tasks(earlier)
        before = earlier.starts_from
    return trained_tasks(stage) <= trained_before


def monitor_score(metrics: dict[str, float], monitor: Monitor) -> float:
    """Return the mean of the monitored metrics; one that is undefined counts as chance, 0.5.

    Where the last epoch is kept in any case, the mean of what there is of Dice and AUC, for the reader only.
    """
    if monitor == "last":
        defined = [metrics[name] for name in ("dice", "auc") if name in metrics]
        return float(np.mean(defined)) if defined else 0.5
    return float(np.mean([metrics.get(name, 0.5) for name in monitor.split("+")]))


def is_score_defined(metrics: dict[str, float], monitor: Monitor) -> bool:
    """Whether every monitored metric is defined."""
    return all(name in metrics for name in monitor.split("+"))


def update_best(progress: Progress, validation: Validation, val_set: SliceDataset, monitor: Monitor) -> bool:
    """Record a validation in `progress`; return whether its weights are the ones to keep now."""
    score = monitor_score(validation.metrics, monitor)
    values = {} if monitor == "last" else patient_pseudovalues(val_set, validation.scores, monitor)
    if is_significantly_worse(values, progress.top_values):
        return False
    progress.best_epoch, progress.best_metrics = progress.epoch, validation.metrics
    if monitor == "last" or progress.top_score is None or score > progress.top_score:
        progress.top_score, progress.top_epoch, progress.top_values = score, progress.epoch, values
    return True


def should_stop(progress: Progress, stage: Stage) -> bool:
    """Whether a stage ends: all epochs are done, patience is over, or its first half did only harm.

    The last means that all its epochs were significantly worse than the initial weights.
    """
    harmful = bool(progress.start_metrics) and not progress.best_epoch
    return (
        progress.epoch >= stage.epochs
        or 0 < stage.patience <= progress.epoch - progress.top_epoch
        or (harmful and 2 * progress.epoch >= stage.epochs)
    )


def is_significantly_worse(current: PatientValues, best: PatientValues) -> bool:
    """Whether one of the metrics is significantly lower than it was: a gain in one does not buy a loss.

    A one-sided paired test at 5 %: the moderated t of Smyth (2004), whose variance is that of the patients'
    differences, drawn towards a prior. So it has power with one or two patients, whose own differences show
    no spread or one by luck, and is Student's t with many.
    """
    for name, values in best.items():
        gains = np.subtract(current[name], values)
        dof = _PRIOR_DOF + len(gains) - 1
        spread = _PRIOR_DOF * _PRIOR_STD**2 + np.square(gains - gains.mean()).sum()
        standard_error = np.sqrt(spread / dof / len(gains))
        if gains.mean() < stdtrit(dof, _SIGNIFICANCE) * standard_error:
            return True
    return False


def patient_pseudovalues(dataset: SliceDataset, scores: SliceScores, monitor: Monitor) -> PatientValues:
    """Return the monitored metrics patient by patient: Dice, and the AUC of each source.

    A value is the jackknife's pseudo-value (Tukey 1958), n times the metric minus (n - 1) times the metric
    without the patient; for Dice, that is the Dice of the patient. An AUC that is undefined without a patient
    counts as chance, 0.5, there. A metric that is undefined as a whole is left out.
    """
    values = {}
    if "dice" in monitor:
        dice = dice_by_patient(dataset, scores)
        sources = range(len(dataset.source_names))
        groups = (
            [dice[name] for name in names if name in dice]
            for source in sources
            for names, _ in _patient_groups(dataset, source)
        )
        values["dice"] = [float(np.mean(group)) for group in groups if group]
    if "auc" in monitor:
        for source, name in enumerate(dataset.source_names):
            values[f"auc_{name}"] = _auc_pseudovalues(dataset, scores, source)
    return {name: row for name, row in values.items() if row}


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
