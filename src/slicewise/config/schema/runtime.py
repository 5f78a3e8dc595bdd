"""The demo, the machine of a run, and experiment tracking."""

from typing import Literal, Self

from pydantic import model_validator

from slicewise.config.schema.base import Count, CountOrZero, Port, Positive, Section


class Serving(Section):
    """The demo."""

    api_port: Port
    """Port of the API on 127.0.0.1."""
    page_port: Port
    """Port of the page on 127.0.0.1."""
    supervisor: Literal["auto", "pm2", "builtin"]
    """What restarts the services; `auto`: PM2 where it is installed, else `builtin`."""
    startup_seconds: Positive
    """Time limit for the start of the services."""
    max_upload_mib: Count
    """Largest upload."""
    phantom_cases: CountOrZero
    """Generated example cases that the page offers."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.api_port == self.page_port:
            raise ValueError(f"api_port and page_port are both {self.api_port}; each service needs its own")
        return self


class Runtime(Section):
    """The machine. Changing it reruns nothing."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    """Device of the model; `auto`: a GPU if there is one."""
    num_workers: CountOrZero
    """Processes for generation and preprocessing; 0: one per core."""
    num_threads: CountOrZero
    """Threads of the model; 0: chosen by a short measurement, see docs/reliability.md."""
    max_worker_memory_mib: Count
    """Memory of a preprocessing process; fewer are started where memory is short."""
    checkpoint_seconds: Positive
    """Longest time between two saved training states within an epoch."""


class Tracking(Section):
    """Experiment tracking. Changing it reruns nothing."""

    mlflow: bool
    """Log finished steps to MLflow; needs the extra `tracking`."""
    tensorboard: bool
    """Log epochs and metrics to TensorBoard, in the folder `tracking/tensorboard`; needs its package."""
    uri: str | None
    """Tracking URI of MLflow; null: a SQLite file in the workspace."""
