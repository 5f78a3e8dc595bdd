"""Model selection: validation, which epoch of a stage is kept, and when the stage stops early.

The latest epoch is kept unless it is significantly worse on the validation patients than the best one so far.
The learning rate falls to the end of a stage, so the latest epoch is expected to be the best; the highest of
several scores on few patients is so by luck as well.
"""

from collections.abc import Hashable, Iterable
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from scipy.special import stdtrit

from slicewise.config.schema import Stage, Training
from slicewise.config.schema.model import TaskName
from slicewise.data.loading.dataset import SliceDataset
from slicewise.data.loading.loader import load_batches, sequential_batches
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.tasks.base import Contributions, Floats, SliceTable
from slicewise.training import processes
from slicewise.training.learner import compute_losses, encode_targets
from slicewise.training.state import Progress

StopReason = Literal["all epochs", "no higher score", "worse than the initial weights"]
_SIGNIFICANCE: Final = 0.05
_PRIOR_STD: Final = 0.03
"""Standard deviation of a patient's Dice between trainings of a recipe (docs/explanation/statistics.md)"""
_PRIOR_DOF: Final = 4
"""Degrees of freedom that the prior is worth"""


class Validation(NamedTuple):
    """The metrics of a model, and what its selection compares."""

    metrics: dict[str, float]
    contributions: Contributions
    """Of the monitored metrics, see `Task.contributions`"""


def validate(
    fabric: Fabric, model: MultitaskModel, dataset: SliceDataset, stage: Stage, training: Training
) -> Validation:
    """Return the metrics of the tasks that a stage trains or monitors; undefined ones are left out.

    `val_loss` weighs the losses of the tasks as training does.

    Raises:
        FloatingPointError: a logit or a loss is NaN or infinite.
    """
    slices = tabulate_slices(dataset)
    scores, losses = _score_slices(fabric, model, dataset, stage, training)
    if not all(np.isfinite(part).all() for part in (*scores.values(), losses)):
        raise FloatingPointError("the logits or losses of the validation are NaN or infinite")
    metrics, contributions = {"val_loss": 0.0}, Contributions()
    for column, task in enumerate(task for name, task in model.tasks.items() if name in scores):
        # A slice without a mask may lie in a batch without mask loss: 0 would make the loss look smaller.
        counted = task.has_target(slices)
        loss = float(losses[counted, column].mean()) if counted.any() else 0.0
        metrics["val_loss"] += getattr(stage.objective, task.name) * loss
        metrics |= {f"val_{task.head}_loss": loss, **task.metrics(slices, scores[task.name])}
        contributions |= task.contributions(slices, scores[task.name], stage.monitors)
    return Validation(metrics, contributions)


def tabulate_slices(dataset: SliceDataset) -> SliceTable:
    """Return what metrics need to know of the slices of a data set."""
    cases = dataset.cases
    patients = _number((case.key.source, case.key.patient) for case in cases)
    groups = _number((case.key.source, case.group) for case in cases)
    return SliceTable(
        sources=np.array(dataset.source_names)[dataset.sources],
        patients=patients[dataset.case_of],
        groups=groups[dataset.case_of],
        has_mask=dataset.has_mask,
        included=dataset.included,
        labels=dataset.labels.astype(np.float64),
    )


def _number(names: Iterable[Hashable]) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


@torch.no_grad()
def _score_slices(
    fabric: Fabric, model: MultitaskModel, dataset: SliceDataset, stage: Stage, training: Training
) -> tuple[dict[TaskName, Floats], Floats]:
    """Run the model over every slice; return each task's scores of the slices and its loss of their batch."""
    model.eval()
    tasks = {
        name: task
        for name, task in model.tasks.items()
        if getattr(stage.objective, name) or {*task.settings.monitors} & {*stage.monitors}
    }
    rows = []
    batches = processes.share_batches(sequential_batches(dataset, training.batch_size))
    for batch in load_batches(dataset, batches):
        on_device = encode_targets(batch.to(fabric.device, training.channels_last), model.tasks)
        with fabric.autocast():
            logits = model(on_device.images, on_device.presence, tasks)
        losses = compute_losses(logits, on_device, tasks, stage.objective, training).tasks
        parts = [task.score(logits[name], on_device) for name, task in tasks.items()]
        rows.append([part.cpu() for part in (*parts, torch.stack([*losses.values()]).expand(len(batch), -1))])
    columns = zip(*processes.join_results(rows), strict=True)
    *scores, mean_losses = (torch.cat(column).double().numpy() for column in columns)
    return dict(zip(tasks, scores, strict=True)), mean_losses


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
    if not stage.monitors or progress.top_score is None or score > progress.top_score + stage.min_delta:
        progress.top_score, progress.top_epoch, progress.top_values = score, progress.epoch, values
    return True


def stop_reason(progress: Progress, stage: Stage) -> StopReason | None:
    """Return why a stage ends: all epochs are done, patience is over, or its first half did only harm.

    The last means that all its epochs were significantly worse than the initial weights.
    """
    if progress.epoch >= stage.epochs:
        return "all epochs"
    if 0 < stage.patience <= progress.epoch - progress.top_epoch:
        return "no higher score"
    harmful = bool(progress.start_metrics) and not progress.best_epoch
    return "worse than the initial weights" if harmful and 2 * progress.epoch >= stage.epochs else None


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
