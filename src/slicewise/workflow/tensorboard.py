"""Training and metrics logged to TensorBoard: each epoch as it ends, the metrics of each step once."""

import math
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from slicewise.config.schema import Config
from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.files import read_json, write_json
from slicewise.core.hashing import digest
from slicewise.engine.observers import Observer
from slicewise.engine.record import StepStatus
from slicewise.engine.workspace import StoredOutput, Workspace
from slicewise.workflow.settings import results_config
from slicewise.workflow.tracking import FOLDER, iterate_metrics

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_LOGGED: Final = "logged.json"


def make_tensorboard(config: Config, workspace: Workspace) -> Observer | None:
    """Return the observer, or None where it is off.

    Raises:
        UsageError: it is on, and the package tensorboard is not installed.
    """
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
