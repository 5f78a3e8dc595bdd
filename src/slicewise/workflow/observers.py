"""The observers of a run: console, MLflow and TensorBoard where they are on, and those of other packages."""

import csv
import logging
import math
import os
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from slicewise.config.keys import flatten_dict
from slicewise.config.schema import Config
from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.files import read_json, write_json
from slicewise.core.hashing import digest
from slicewise.core.registry import Registry
from slicewise.engine.observers import Console, Observer, Observers
from slicewise.engine.receipt import Receipt
from slicewise.engine.record import StepStatus
from slicewise.engine.workspace import StoredOutput, Workspace
from slicewise.workflow.settings import results_config
from slicewise.workflow.time_plan import Forecast

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


EXPERIMENT: Final = "slicewise"
FOLDER: Final = "tracking"
_PACKAGES: Final = ("mlflow", "sqlalchemy", "alembic")
_CONFIG_TAG: Final = "slicewise.config"
ALLOWED_CHARACTERS: Final = frozenset(string.ascii_letters + string.digits + "_-./ ")
"""Characters that MLflow allows in names"""
_CHUNK_SIZE: Final = 100
_MAX_LENGTH: Final = 500  # characters of a parameter or tag that older servers accept

_LOGGED: Final = "logged.json"  # beside the event files of TensorBoard: the products that are in them
OBSERVERS: Final[Registry[Callable[[Config, Workspace], Observer | None]]] = Registry(
    "observers",
    {
        "mlflow": "slicewise.workflow.observers:make_tracker",
        "tensorboard": "slicewise.workflow.observers:make_tensorboard",
    },
)
"""Functions that return an observer, or None where it is off."""


T = TypeVar("T")


def list_observers(config: Config, workspace: Workspace) -> dict[str, Observer]:
    """Return the observers that are on, by name, without the console.

    Raises:
        UsageError: one of them is on, and its packages are not installed.
    """
    made = {name: OBSERVERS[name](config, workspace) for name in OBSERVERS.names()}
    return {name: observer for name, observer in made.items() if observer is not None}


def make_observers(config: Config, workspace: Workspace) -> Observers:
    """Return all observers of a run; errors as of `list_observers`."""
    minutes = config.training.minutes
    forecast = {"forecast": Forecast(minutes)} if minutes else {}
    return Observers({"console": Console(), **forecast, **list_observers(config, workspace)})


def make_tracker(config: Config, workspace: Workspace) -> Observer | None:
    """Return the observer that logs to MLflow, or None where it is off."""
    if not config.tracking.mlflow:
        return None
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"tracking.mlflow=true needs {', '.join(missing)}: install slicewise[tracking] (in a checkout: "
            "uv pip install -r requirements/tracking.lock), or set tracking.mlflow=false"
        )
    return Tracker(config, workspace)


class Tracker(Observer):
    """Logs the output of each step to MLflow."""

    def __init__(self, config: Config, workspace: Workspace) -> None:
        self._workspace = workspace
        self._name = f"{config.training_mode} {config.data.name}"
        self._config = results_config(config)
        self._uri = config.tracking.uri
        self._client: Any = None
        self._run_id = ""

    def finished(self, step: str, _status: StepStatus, _reason: str, output: StoredOutput | None) -> None:
        if output is None:
            return
        receipt, folders = output.receipt, output.folders
        if self._client is None:
            self._open()
        logged_tags = self._client.get_run(self._run_id).data.tags
        # A forced step may give another product under the same fingerprint.
        step_tags = {f"product.{step}": receipt.product, f"step.{step}": receipt.fingerprint}
        if step_tags.items() <= logged_tags.items():
            return
        from mlflow.entities import Metric, RunTag

        time = int(datetime.fromisoformat(receipt.report.made_at).timestamp() * 1000)
        for chunk in _chunks(list(iterate_metrics(step, receipt, folders))):
            metrics = [Metric(name, value, time, number) for name, value, number in chunk]
            self._client.log_batch(self._run_id, metrics=metrics)
        report, prefix = receipt.report, f"output.{receipt.identity.step}"
        tags = {
            **{f"{prefix}.{slot}": self._workspace.relative(path) for slot, path in folders.items()},
            "git_commit": report.git_commit or "not recorded",
            "command": report.command or "not recorded",
            "workspace": self._workspace.root.name,
            **step_tags,  # last: without them the step is logged again
        }
        for name, value in tags.items():
            self._client.log_batch(self._run_id, tags=[RunTag(name, str(value)[:_MAX_LENGTH])])
        if step in ("evaluate", "cross_validation"):
            self._client.set_terminated(self._run_id)

    def _open(self) -> None:
        """Find the run of this configuration, or create it."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        folder, address = self._workspace.root / FOLDER, self._uri
        if address is None:
            folder.mkdir(parents=True, exist_ok=True)
            address = f"sqlite:///{folder / 'mlflow.db'}"
        client = MlflowClient(tracking_uri=address)
        if existing := client.get_experiment_by_name(EXPERIMENT):
            experiment = existing.experiment_id
        else:
            artifacts = None if self._uri else (folder / "artifacts").as_uri()
            experiment = client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        config = digest(self._config)
        runs = client.search_runs([experiment], f"tags.`{_CONFIG_TAG}` = '{config}'", max_results=1)
        if not runs:
            name = f"{self._name} {config[:8]}"
            runs = [client.create_run(experiment, tags={_CONFIG_TAG: config}, run_name=name)]
        self._run_id = runs[0].info.run_id
        params = [Param(key, str(value)[:_MAX_LENGTH]) for key, value in flatten_dict(self._config).items()]
        for chunk in _chunks(params):
            client.log_batch(self._run_id, params=chunk)
        self._client = client


def iterate_metrics(
    step: str, receipt: Receipt, folders: Mapping[str, Path]
) -> Iterator[tuple[str, float, int]]:
    """Yield (name, value, epoch): the history of a stage epoch by epoch, and the metrics of any step."""
    for key, value in flatten_dict(receipt.report.metrics).items():
        if isinstance(value, int | float) and math.isfinite(value):
            yield _name(f"{step}/{key}"), float(value), 0
    for path in (folder / "history.csv" for folder in folders.values()):
        rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()
        for row in rows:
            epoch = int(row.pop("epoch"))
            for name, text in row.items():
                if text and math.isfinite(float(text)):
                    yield _name(f"{step}/{name}"), float(text), epoch


def _name(text: str) -> str:
    """Return a name that MLflow allows."""
    return "".join(letter if letter in ALLOWED_CHARACTERS else "_" for letter in text)


def _chunks(items: list[T]) -> list[list[T]]:
    """Split a list into the sizes that one request may have."""
    return [items[first : first + _CHUNK_SIZE] for first in range(0, len(items), _CHUNK_SIZE)]


def make_tensorboard(config: Config, workspace: Workspace) -> Observer | None:
    """Return the observer that logs to TensorBoard, or None where it is off."""
    if not config.tracking.tensorboard:
        return None
    if find_spec("tensorboard") is None:
        raise UsageError(
            "tracking.tensorboard=true needs the package tensorboard: pip install tensorboard, or set "
            "tracking.tensorboard=false"
        )
    return TensorBoard(config, workspace)


class TensorBoard(Observer):
    """Writes event files to tracking/tensorboard/<digest of the configuration> in the workspace."""

    def __init__(self, config: Config, workspace: Workspace) -> None:
        self._folder = workspace.root / FOLDER / "tensorboard" / digest(results_config(config))[:8]
        self._writer: SummaryWriter | None = None

    def _log(self, name: str, value: float, number: int) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        self._writer.add_scalar(name, value, number)

    def epoch(self, step: str, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if name != "epoch" and math.isfinite(value):
                self._log(f"{step}/{name}", value, int(metrics["epoch"]))
        if self._writer is not None:
            self._writer.flush()

    def finished(self, step: str, status: StepStatus, _reason: str, output: StoredOutput | None) -> None:
        logged: dict[str, str] = {}
        with suppress(FileNotFoundError, WorkspaceError):
            logged = read_json(self._folder / _LOGGED)
        if output is None or logged.get(step) == output.receipt.product:
            return
        for name, value, number in iterate_metrics(step, output.receipt, output.folders):
            if status != "completed" or number == 0:  # its epochs were logged as they ended
                self._log(name, value, number)
        if self._writer is not None:
            self._writer.flush()
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / _LOGGED, {**logged, step: output.receipt.product})
