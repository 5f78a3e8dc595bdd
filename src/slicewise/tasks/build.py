"""The tasks of a configuration or checkpoint."""

from collections.abc import Mapping

from slicewise.config.schema import Tasks
from slicewise.config.schema.model import TaskName
from slicewise.tasks.base import Task
from slicewise.tasks.classification import Classification
from slicewise.tasks.segmentation import Segmentation


def make_tasks(settings: Tasks) -> dict[TaskName, Task]:
    """Return the tasks by name, in order; those that are null are absent."""
    tasks: list[Task] = []
    if settings.segmentation:
        tasks.append(Segmentation(settings.segmentation))
    if settings.classification:
        tasks.append(Classification(settings.classification))
    return {task.name: task for task in tasks}


def find_classification(tasks: Mapping[TaskName, Task]) -> Classification | None:
    """Return the classification task; None where it is absent."""
    task = tasks.get("classification")
    return task if isinstance(task, Classification) else None


def find_segmentation(tasks: Mapping[TaskName, Task]) -> Segmentation | None:
    """Return the segmentation task; None where it is absent."""
    task = tasks.get("segmentation")
    return task if isinstance(task, Segmentation) else None
