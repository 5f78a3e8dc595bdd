"""Validation: the metrics of a model on the validation patients."""

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from slicewise.config.schema import Stage, Training
from slicewise.config.schema.model import TaskName
from slicewise.data.loading.dataset import SliceDataset
from slicewise.data.loading.loader import load_batches, sequential_batches
from slicewise.models.multitask import MultitaskModel
from slicewise.tasks.base import Contributions, Floats, SliceTable
from slicewise.training.learner import compute_losses, encode_targets


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
    for batch in load_batches(dataset, sequential_batches(dataset, training.batch_size)):
        on_device = encode_targets(batch.to(fabric.device, training.channels_last), model.tasks)
        with fabric.autocast():
            logits = model(on_device.images, on_device.presence, tasks)
        losses = compute_losses(logits, on_device, tasks, stage.objective, training).tasks
        parts = [task.score(logits[name], on_device) for name, task in tasks.items()]
        widths = [part.shape[1] for part in parts]
        rows.append(torch.cat([*parts, torch.stack([*losses.values()]).expand(len(batch), -1)], 1))
    table = torch.cat(rows).cpu().double().numpy()
    *scores, mean_losses = np.split(table, np.cumsum(widths), axis=1)
    return dict(zip(tasks, scores, strict=True)), mean_losses
