"""The part of the network that a stage uses, and its losses."""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from slicewise.config.schema import Config, Objective, Stage, Training
from slicewise.config.schema.training import StageName
from slicewise.data.loading.dataset import Batch
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION, TASKS, Task
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.training.losses import class_loss, mask_loss


class ActiveTasks(NamedTuple):
    """Which questions are asked."""

    segment: bool
    classify: bool

    @classmethod
    def trained(cls, objective: Objective) -> Self:
        """Those that have a weight in the loss."""
        return cls(objective.segmentation > 0, objective.classification > 0)

    @classmethod
    def validated(cls, stage: Stage) -> Self:
        """Those that are learned or monitored."""
        trained = cls.trained(stage.objective)
        return cls(trained.segment or "dice" in stage.monitor, trained.classify or "auc" in stage.monitor)


def may_keep_initial_weights(config: Config, name: StageName) -> bool:
    """Whether the network that a stage begins with may be kept in place of its epochs.

    Not where the last epoch is kept in any case, and not where the stage teaches a task that no stage before
    it has taught: weights that are still random may score well by luck. What weights of another run
    (`training.start_from`) have learned is not known here; they count as taught what the first stage teaches.
    """
    stage = getattr(config.stages, name)
    if stage.monitor == "last":
        return False
    trained_before: set[str] = set()
    before = stage.starts_from or name
    while before is not None:
        earlier = getattr(config.stages, before)
        trained_before |= _trained_tasks(earlier)
        before = earlier.starts_from
    return _trained_tasks(stage) <= trained_before


def untrained_tasks(stage: Stage, start: Checkpoint | None) -> tuple[Task, ...]:
    """Return the tasks that neither a stage nor any stage before it teaches.

    What weights of another run (`training.start_from`) have learned counts for nothing, as in the evaluation.
    """
    before = TASKS if start is None or stage.starts_from is None else start.not_trained
    return tuple(task for task in before if task not in _trained_tasks(stage))


def _trained_tasks(stage: Stage) -> set[str]:
    """Return the tasks that a stage has in its loss and trains the part of."""
    rates, objective = stage.learning_rates, stage.objective
    segments = objective.segmentation > 0 and rates.decoder > 0
    classifies = objective.classification > 0 and rates.head > 0
    return {name for name, is_so in ((SEGMENTATION, segments), (CLASSIFICATION, classifies)) if is_so}


class TaskOutput(NamedTuple):
    """Logits of the tasks asked for: masks [batch, 1, row, col], classes [batch]."""

    mask_logits: Tensor | None
    class_logits: Tensor | None


class Losses(NamedTuple):
    """Scalars, fp32; a task that is not asked costs 0."""

    total: Tensor
    mask: Tensor
    classification: Tensor


class TaskModel(nn.Module):
    """A network that answers no more than its tasks."""

    def __init__(self, model: MultitaskModel, tasks: ActiveTasks) -> None:
        super().__init__()
        self.model = model
        self.tasks = tasks

    def forward(self, images: Tensor, presence: Tensor) -> TaskOutput:
        """Answer the tasks for images [batch, 4, row, col] and presence [batch, 4]."""
        decoded = self.model.decode(self.model.encode(images, presence))
        return TaskOutput(
            self.model.mask_head(decoded) if self.tasks.segment else None,
            self.model.class_head(decoded) if self.tasks.classify else None,
        )


def compute_losses(outputs: TaskOutput, batch: Batch, objective: Objective, training: Training) -> Losses:
    """Return the stage's loss and its two parts."""
    zero = torch.zeros((), device=batch.labels.device)
    mask = classification = zero
    if outputs.mask_logits is not None:
        mask = mask_loss(outputs.mask_logits, batch.masks, batch.has_mask, training.mask_loss)
    if outputs.class_logits is not None:
        classification = class_loss(outputs.class_logits, batch.labels, training.label_smoothing)
    total = objective.segmentation * mask + objective.classification * classification
    return Losses(total, mask, classification)
