"""The observers of a run: console, MLflow and TensorBoard where they are on, and those of other packages."""

from collections.abc import Callable
from typing import Final

from slicewise.config.schema import Config
from slicewise.core.registry import Registry
from slicewise.engine.observers import Console, Observer, Observers
from slicewise.engine.workspace import Workspace

OBSERVERS: Final[Registry[Callable[[Config, Workspace], Observer | None]]] = Registry(
    "observers",
    {
        "mlflow": "slicewise.workflow.tracking:make_tracker",
        "tensorboard": "slicewise.workflow.tensorboard:make_tensorboard",
    },
)
"""Functions that return an observer, or None where it is off."""


def list_observers(config: Config, workspace: Workspace) -> dict[str, Observer]:
    """Return the observers that are on, by name, without the console.

    Raises:
        UsageError: one of them is on, and its packages are not installed.
    """
    made = {name: OBSERVERS[name](config, workspace) for name in OBSERVERS.names()}
    return {name: observer for name, observer in made.items() if observer is not None}


def make_observers(config: Config, workspace: Workspace) -> Observers:
    """Return all observers of a run; errors as of `list_observers`."""
    return Observers({"console": Console(), **list_observers(config, workspace)})
