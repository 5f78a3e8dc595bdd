"""Model selection: which epoch of a stage is kept, and when the stage stops early.

The latest epoch is kept unless it is significantly worse on the validation patients than the best one so far.
The learning rate falls to the end of a stage, so the latest epoch is expected to be the best; the highest of
several scores on few patients is so by luck as well.
"""

from typing import Final

import numpy as np
from scipy.special import stdtrit

from slicewise.config.schema import Stage
from slicewise.models.checkpoint import Checkpoint
from slicewise.tasks.base import Contributions
from slicewise.training.state import Progress
from slicewise.training.validation import Validation

_SIGNIFICANCE: Final = 0.05
_PRIOR_STD: Final = 0.03
"""Standard deviation of one patient's Dice between two trainings of the same recipe (docs/evaluation.md)"""
_PRIOR_DOF: Final = 4
"""Degrees of freedom that the prior is worth"""


def may_keep_initial_weights(stage: Stage, start: Checkpoint) -> bool:
    """Whether a stage may keep the weights that it begins with in place of those of its epochs.

    Not where the last epoch is kept in any case, and not where the stage trains a task that no stage before
    it has trained: random weights may score well by luck.
    """
    return bool(stage.monitors) and stage.trained_tasks.issubset(start.tasks.names)


def monitor_score(metrics: dict[str, float], stage: Stage) -> float:
    """Return the mean of the monitored metrics; one that is undefined counts as chance, 0.5.

    Where the last epoch is kept in any case, the mean of what there is of Dice and AUC, for the reader only.
    """
    if not stage.monitors:
        defined = [metrics[name] for name in ("dice", "auc") if name in metrics]
        return float(np.mean(defined)) if defined else 0.5
    return float(np.mean([metrics.get(name, 0.5) for name in stage.monitors]))


def is_score_defined(metrics: dict[str, float], stage: Stage) -> bool:
    """Whether every monitored metric is defined."""
    return all(name in metrics for name in stage.monitors)


def update_best(progress: Progress, validation: Validation, stage: Stage) -> bool:
    """Record a validation in `progress`; return whether its weights are the ones to keep now."""
    score, values = monitor_score(validation.metrics, stage), validation.contributions
    if is_significantly_worse(values, progress.top_values):
        return False
    progress.best_epoch, progress.best_metrics = progress.epoch, validation.metrics
    if not stage.monitors or progress.top_score is None or score > progress.top_score:
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


def is_significantly_worse(current: Contributions, best: Contributions) -> bool:
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
