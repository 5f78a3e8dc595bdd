"""The demo, the machine a run happens on, and who else is told of it."""

from typing import Literal, Self

from pydantic import model_validator

from slicewise.config.schema.base import Count, CountOrZero, Port, Positive, Section


class Serving(Section):
    """The demo."""

    api_port: Port
    """On 127.0.0.1."""
    page_port: Port
    """On 127.0.0.1."""
    supervisor: Literal["auto", "pm2", "builtin"]
    """Who keeps the services alive; `auto` is PM2 where it is installed, else SliceWise itself."""
    startup_seconds: Positive
    """How long the services may take until their health checks answer."""
    max_upload_mib: Count
    """Largest case that may be sent."""
    phantom_cases: CountOrZero
    """Generated cases that the page offers to people without a picture at hand."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.api_port == self.page_port:
            raise ValueError(f"api_port and page_port are both {self.api_port}; each service needs its own")
        return self


class Runtime(Section):
    """The machine. Never part of an identity: changing it reruns nothing."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    """Where the network computes; `auto` takes a GPU where there is one."""
    num_workers: CountOrZero
    """Processes for generation and preprocessing; 0 uses every core."""
    num_threads: CountOrZero
    """Threads of the model wherever it runs; 0 chooses by a short measurement, see docs/reliability.md."""
    max_worker_memory_mib: Count
    """Memory each preprocessing process may need; fewer start where the machine has less."""
    checkpoint_seconds: Positive
    """A long epoch saves its state at least this often."""


class Tracking(Section):
    """Experiment tracking. Never part of an identity: changing it reruns nothing."""

    mlflow: bool
    """Log finished steps to MLflow; needs the extra `tracking`."""
    uri: str | None
    """Where MLflow keeps its runs; null is a SQLite file in the workspace."""
