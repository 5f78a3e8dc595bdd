"""What a demo writes down about itself in `demo.json`, so that any later command can find and stop it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from slicewise.core.files import write_json

HOST = "127.0.0.1"
API_URL_VARIABLE = "SLICEWISE_API_URL"
"""Tells the page where the API answers."""
SupervisorKind = Literal["builtin", "pm2"]


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process by id and start time (seconds since 1970): a recycled id is another process."""

    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service as its supervisor last saw it; `process` is None while it is down."""

    name: str
    port: int
    health_path: str
    log_path: str
    process: ProcessIdentity | None
    restarts: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True)
class DemoState:
    """A demo: who supervises it, which model it serves, and where it answers.

    `supervisor` is None under PM2, whose daemon is not ours to stop, and where the supervisor has gone.
    `error` is set when the supervisor gave up.
    `healthy` is what the last look found; it is not stored.
    """

    kind: SupervisorKind
    supervisor: ProcessIdentity | None
    fingerprint: str
    checkpoint: str
    services: tuple[ServiceState, ...]
    error: str = ""
    healthy: bool = field(default=False, compare=False)

    def service(self, name: str) -> ServiceState:
        return next(service for service in self.services if service.name == name)

    @property
    def api_url(self) -> str:
        return self.service("api").url

    @property
    def page_url(self) -> str:
        return self.service("page").url

    def processes(self) -> tuple[ProcessIdentity, ...]:
        """Return the services' processes, without the supervisor."""
        return tuple(service.process for service in self.services if service.process is not None)


def state_path(home: Path) -> Path:
    return home / "demo.json"


def write_state(home: Path, state: DemoState) -> None:
    """Write the state atomically: a reader sees the old one or the new one."""
    value = asdict(state)
    del value["healthy"]
    write_json(state_path(home), value)


def read_state(home: Path) -> DemoState | None:
    """Return the recorded state, or None where no demo was started or its record cannot be read."""
    try:
        value = json.loads(state_path(home).read_bytes())
        services = tuple(_service(service) for service in value.pop("services"))
        supervisor = _process(value.pop("supervisor"))
        return DemoState(**value, services=services, supervisor=supervisor)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _service(value: dict[str, Any]) -> ServiceState:
    return ServiceState(**(value | {"process": _process(value["process"])}))


def _process(value: dict[str, Any] | None) -> ProcessIdentity | None:
    return None if value is None else ProcessIdentity(**value)
