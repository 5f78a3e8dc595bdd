"""The tasks that a stage trains and validates."""

from typing import NamedTuple, Self

from slicewise.config.schema import Objective, Stage
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION, TASKS, Task
from slicewise.models.checkpoint import Checkpoint


class ActiveTasks(NamedTuple):
    """The tasks that are computed."""

    segment: bool
    classify: bool

    @classmethod
    def trained(cls, objective: Objective) -> Self:
        """Return the tasks that have a weight in the loss."""
        return cls(objective.segmentation > 0, objective.classification > 0)

    @classmethod
    def validated(cls, stage: Stage) -> Self:
        """Return the tasks that are trained or monitored."""
        trained = cls.trained(stage.objective)
        return cls(trained.segment or "dice" in stage.monitor, trained.classify or "auc" in stage.monitor)


def trained_tasks(stage: Stage) -> set[str]:
    """Return the tasks that a stage has in its loss and whose part of the model it trains."""
    rates, (segment, classify) = stage.learning_rates, ActiveTasks.trained(stage.objective)
    trained = {SEGMENTATION: segment and rates.decoder > 0, CLASSIFICATION: classify and rates.head > 0}
    return {task for task, is_trained in trained.items() if is_trained}


def untrained_tasks(stage: Stage, start: Checkpoint | None) -> tuple[Task, ...]:
    """Return the tasks that neither a stage nor any stage before it trains.

    The training of a checkpoint of another run (`training.start_from`) does not count, as in the evaluation.
    """
    before = TASKS if start is None or stage.starts_from is None else start.not_trained
    return tuple(task for task in before if task not in trained_tasks(stage))
