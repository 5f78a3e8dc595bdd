"""The loss of a stage: the weighted sum of the losses of its tasks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from slicewise.config.schema import Objective, Training
from slicewise.config.schema.tasks import TaskName
from slicewise.data.loading.dataset import Batch
from slicewise.tasks.base import Task
from slicewise.tasks.build import find_segmentation

Tasks = Mapping[TaskName, Task]


class Losses(NamedTuple):
    """Scalars, fp32."""

    total: Tensor
    tasks: dict[TaskName, Tensor]
    """Of each task of the recipe, unweighted; 0 where it was not computed"""


def encode_targets(batch: Batch, tasks: Tasks) -> Batch:
    """Return a batch with the masks of the classes, float [B, class, row, col]; none without the task."""
    task = find_segmentation(tasks)
    return replace(batch, masks=task.encode(batch.masks) if task else batch.masks[:, :0].float())


def compute_losses(
    logits: Mapping[TaskName, Tensor], batch: Batch, tasks: Tasks, objective: Objective, training: Training
) -> Losses:
    """Return the stage's loss, and that of each task with logits; `batch` has encoded targets."""
    zero = torch.zeros((), device=batch.labels.device)
    losses = {
        name: task.loss(logits[name], batch, training) if name in logits else zero
        for name, task in tasks.items()
    }
    total = torch.stack([getattr(objective, name) * loss for name, loss in losses.items()]).sum()
    return Losses(total, losses)
