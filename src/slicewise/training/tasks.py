"""The part of the network that a stage uses, and its losses."""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from slicewise.config.schema import Config, Objective, Stage, Training
from slicewise.config.schema.training import StageName
from slicewise.core.labels import CLASSIFICATION, SEGMENTATION, TASKS, Task
from slicewise.data.batches import Batch
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskNet
from slicewise.training.losses import class_loss, mask_loss


class Tasks(NamedTuple):
    """Which questions are asked."""

    segment: bool
    classify: bool

    @classmethod
    def learned(cls, objective: Objective) -> Self:
        """Those that have a weight in the loss."""
        return cls(objective.segmentation > 0, objective.classification > 0)

    @classmethod
    def validated(cls, stage: Stage) -> Self:
        """Those that are learned or monitored."""
        learned = cls.learned(stage.objective)
        return cls(learned.segment or "dice" in stage.monitor, learned.classify or "auc" in stage.monitor)


def start_is_rival(config: Config, name: StageName) -> bool:
    """Whether the network that a stage begins with may be kept in place of its epochs.

    Not where the last epoch is kept in any case, and not where the stage teaches a task that no stage before
    it has taught: weights that are still random may score well by luck. What weights of another run
    (`training.start_from`) have learned is not known here; they count as taught what the first stage teaches.
    """
    stage = getattr(config.stages, name)
    if stage.monitor == "last":
        return False
    taught: set[str] = set()
    before = stage.starts_from or name
    while before is not None:
        earlier = getattr(config.stages, before)
        taught |= _taught(earlier)
        before = earlier.starts_from
    return _taught(stage) <= taught


def not_taught(stage: Stage, start: Checkpoint | None) -> tuple[Task, ...]:
    """Return the tasks that neither a stage nor any stage before it teaches.

    What weights of another run (`training.start_from`) have learned counts for nothing, as in the evaluation.
    """
    before = TASKS if start is None or stage.starts_from is None else start.not_trained
    return tuple(task for task in before if task not in _taught(stage))


def _taught(stage: Stage) -> set[str]:
    """Return the tasks that a stage has in its loss and trains the part of."""
    rates, objective = stage.learning_rates, stage.objective
    segments = objective.segmentation > 0 and rates.decoder > 0
    classifies = objective.classification > 0 and rates.head > 0
    return {name for name, is_so in ((SEGMENTATION, segments), (CLASSIFICATION, classifies)) if is_so}


class Answers(NamedTuple):
    """Logits of the tasks asked for: masks [batch, 1, row, col], classes [batch]."""

    mask_logits: Tensor | None
    class_logits: Tensor | None


class Losses(NamedTuple):
    """Scalars, fp32; a task that is not asked costs 0."""

    total: Tensor
    mask: Tensor
    classification: Tensor


class TaskNet(nn.Module):
    """A network that answers no more than its tasks."""

    def __init__(self, net: MultitaskNet, tasks: Tasks) -> None:
        super().__init__()
        self.net = net
        self.tasks = tasks

    def forward(self, images: Tensor, presence: Tensor) -> Answers:
        """Answer the tasks for images [batch, 4, row, col] and presence [batch, 4]."""
        decoded = self.net.decode(self.net.encode(images, presence))
        return Answers(
            self.net.mask_head(decoded) if self.tasks.segment else None,
            self.net.class_head(decoded) if self.tasks.classify else None,
        )


def compute_losses(answers: Answers, batch: Batch, objective: Objective, training: Training) -> Losses:
    """Return the stage's loss and its two parts."""
    nothing = torch.zeros((), device=batch.labels.device)
    mask = classification = nothing
    if answers.mask_logits is not None:
        mask = mask_loss(answers.mask_logits, batch.masks, batch.has_mask, training.mask_loss)
    if answers.class_logits is not None:
        classification = class_loss(answers.class_logits, batch.labels, training.label_smoothing)
    total = objective.segmentation * mask + objective.classification * classification
    return Losses(total, mask, classification)
