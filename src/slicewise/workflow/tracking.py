"""Finished steps told to MLflow, from what they left behind: nothing in a step knows of it.

One MLflow run stands for one configuration. Each step is logged once into it, whether it was made by this
command or by an earlier one, so a killed and repeated command ends with the same run.
"""

import logging
import math
import os
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

from slicewise.config.keys import flatten_dict
from slicewise.config.schema import Config
from slicewise.core.errors import UsageError
from slicewise.core.hashing import digest
from slicewise.core.redact import redact
from slicewise.engine.receipt import Receipt
from slicewise.engine.workspace import Workspace
from slicewise.workflow.settings import results_config
from slicewise.workflow.step_names import CROSS_VALIDATION

EXPERIMENT: Final = "slicewise"
FOLDER: Final = "tracking"
_PACKAGES: Final = ("mlflow", "sqlalchemy", "alembic")
_CONFIG_TAG: Final = "slicewise.config"
ALLOWED_CHARACTERS: Final = frozenset(string.ascii_letters + string.digits + "_-./ ")
"""What a name of MLflow may consist of"""
_CHUNK_SIZE: Final = 100
_MAX_LENGTH: Final = 500
"""Characters of a parameter or tag; older servers take no more."""

T = TypeVar("T")
Observer = Callable[[str, Receipt, Mapping[str, Path]], Sequence[str]]


def make_tracker(config: Config, workspace: Workspace) -> Observer:
    """Return what is to be told of finished steps; without tracking, somebody who does not listen.

    Raises:
        UsageError: tracking is on and its packages are not installed.
    """
    require_packages(config)
    return Tracker(config, workspace) if config.tracking.mlflow else lambda *_: ()


def require_packages(config: Config) -> None:
    """Refuse tracking without what it needs.

    Raises:
        UsageError: tracking is on and its packages are not installed.
    """
    if not config.tracking.mlflow:
        return
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"tracking.mlflow=true needs {', '.join(missing)}: install slicewise[tracking] (in a checkout: "
            "uv pip install -r requirements/tracking.lock), or set tracking.mlflow=false"
        )


class Tracker:
    """Logs to MLflow. A tracker that fails says so once, and the pipeline goes on without it."""

    def __init__(self, config: Config, workspace: Workspace) -> None:
        self._workspace = workspace
        self._name = f"{config.training_mode} {config.data.name}"
        self._config = results_config(config)
        self._uri = config.tracking.uri
        self._client: Any = None
        self._run_id = ""
        self._disabled = False

    def __call__(self, step: str, receipt: Receipt, folders: Mapping[str, Path]) -> list[str]:
        """Log one step; return what went wrong, if anything did."""
        if self._disabled:
            return []
        try:
            self._log(step, receipt, folders)
        except Exception as error:  # whatever a foreign library or server raises
            self._disabled = True
            reason = redact(f"{type(error).__name__}: {error}".splitlines()[0])
            return [f"tracking failed at {step} and is off until the next command: {reason}"]
        return []

    def _log(self, step: str, receipt: Receipt, folders: Mapping[str, Path]) -> None:
        if self._client is None:
            self._open()
        logged_tags = self._client.get_run(self._run_id).data.tags
        # Forced, on another machine say, a step gives another product under the same fingerprint.
        step_tags = {f"product.{step}": receipt.product, f"step.{step}": receipt.fingerprint}
        if step_tags.items() <= logged_tags.items():
            return
        from mlflow.entities import Metric, RunTag

        time = _milliseconds(receipt.report["made_at"])
        for chunk in _chunks(list(iterate_metrics(step, receipt, folders))):
            metrics = [Metric(name, value, time, number) for name, value, number in chunk]
            self._client.log_batch(self._run_id, metrics=metrics)
        # The tag of the step goes last: without it the step is logged again.
        tags = {**self._tags(receipt, folders), **step_tags}
        for name, value in tags.items():
            self._client.log_batch(self._run_id, tags=[RunTag(name, str(value)[:_MAX_LENGTH])])
        if step in ("evaluate", CROSS_VALIDATION):
            self._client.set_terminated(self._run_id)

    def _tags(self, receipt: Receipt, folders: Mapping[str, Path]) -> dict[str, str]:
        report, step = receipt.report, receipt.identity.step
        output_tags = {
            f"output.{step}.{slot}": self._workspace.relative(path) for slot, path in folders.items()
        }
        return {
            **output_tags,
            "git_commit": report.get("git_commit") or "not recorded",
            "command": report.get("command") or "not recorded",
            "workspace": self._workspace.root.name,
        }

    def _open(self) -> None:
        """Find the run of this configuration, or begin it."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        client = MlflowClient(tracking_uri=self._address())
        experiment, config = self._experiment(client), digest(self._config)
        found = client.search_runs([experiment], f"tags.`{_CONFIG_TAG}` = '{config}'", max_results=1)
        if found:
            self._run_id = found[0].info.run_id
        else:
            name = f"{self._name} {config[:8]}"
            self._run_id = client.create_run(
                experiment, tags={_CONFIG_TAG: config}, run_name=name
            ).info.run_id
        params = [Param(key, str(value)[:_MAX_LENGTH]) for key, value in flatten_dict(self._config).items()]
        for chunk in _chunks(params):
            client.log_batch(self._run_id, params=chunk)
        self._client = client

    def _address(self) -> str:
        if self._uri is not None:
            return self._uri
        folder = self._workspace.root / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{folder / 'mlflow.db'}"

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        artifact_uri = None if self._uri else (self._workspace.root / FOLDER / "artifacts").as_uri()
        return str(client.create_experiment(EXPERIMENT, artifact_location=artifact_uri))


def iterate_metrics(
    step: str, receipt: Receipt, folders: Mapping[str, Path]
) -> Iterator[tuple[str, float, int]]:
    """Yield (name, value, epoch): the history of a stage epoch by epoch, and the metrics of any step."""
    for key, value in flatten_dict(receipt.report["metrics"]).items():
        if isinstance(value, int | float) and math.isfinite(value):
            yield _name(f"{step}/{key}"), float(value), 0
    for folder in folders.values():
        if (folder / "history.csv").is_file():
            yield from _history(step, folder / "history.csv")


def _history(step: str, path: Path) -> Iterator[tuple[str, float, int]]:
    import csv

    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            epoch = int(row.pop("epoch"))
            for name, text in row.items():
                if text and math.isfinite(float(text)):
                    yield _name(f"{step}/{name}"), float(text), epoch


def _name(text: str) -> str:
    """Return a name that MLflow takes."""
    return "".join(letter if letter in ALLOWED_CHARACTERS else "_" for letter in text)


def _chunks(items: list[T]) -> list[list[T]]:
    """Split a list into what one request may hold."""
    return [items[first : first + _CHUNK_SIZE] for first in range(0, len(items), _CHUNK_SIZE)]


def _milliseconds(made_at: str) -> int:
    return int(datetime.fromisoformat(made_at).timestamp() * 1000)
