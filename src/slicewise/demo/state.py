"""A demo in `demo.json`: what its supervisor starts, and by which any later command finds and stops it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, write_json
from slicewise.serving.endpoints import HOST

SupervisorKind = Literal["builtin", "pm2"]
_LARGEST_NUMBER: Final = 1 << 32
"""No pid, port, count or time in seconds reaches it."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process by id and start time (seconds since 1970): a recycled id is another process."""

    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class Service:
    """A command that serves a port of this machine and appends its output to a log file.

    `process` and `restarts` are as the supervisor recorded them last; `process` is None while it is down.
    """

    name: str
    port: int
    health_path: str
    log_path: str
    process: ProcessIdentity | None = None
    restarts: int = 0
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True)
class DemoState:
    """A demo: its supervisor, its model and its services.

    `supervisor` is None under PM2, whose daemon is not ours to stop, and where the supervisor has ended.
    `error` is set when the supervisor gave up.
    """

    kind: SupervisorKind
    supervisor: ProcessIdentity | None
    fingerprint: str
    checkpoint: str
    services: tuple[Service, ...]
    error: str = ""

    def service(self, name: str) -> Service:
        return next(service for service in self.services if service.name == name)

    @property
    def api_url(self) -> str:
        return self.service("api").url

    @property
    def page_url(self) -> str:
        return self.service("page").url

    def processes(self) -> tuple[ProcessIdentity, ...]:
        """Return the services' processes, without the supervisor's."""
        return tuple(service.process for service in self.services if service.process is not None)


def state_path(home: Path) -> Path:
    return home / "demo.json"


def write_state(home: Path, state: DemoState) -> None:
    """Write the state atomically: a reader sees the old one or the new one."""
    write_json(state_path(home), asdict(state))


def read_state(home: Path) -> DemoState | None:
    """Return the recorded state, or None where no demo was started or its record cannot be read."""
    try:
        value = read_json(state_path(home))
        services = tuple(map(_parse_service, value.pop("services")))
        supervisor = _parse_process(value.pop("supervisor"))
        state = DemoState(**value, services=services, supervisor=supervisor)
        return state if _is_valid(state) else None
    except (OSError, WorkspaceError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _parse_process(value: dict[str, Any] | None) -> ProcessIdentity | None:
    return None if value is None else ProcessIdentity(**value)


def _parse_service(value: dict[str, Any]) -> Service:
    environment = tuple((name, text) for name, text in value.pop("environment"))
    process, command = _parse_process(value.pop("process")), tuple(value.pop("command"))
    return Service(**value, process=process, command=command, environment=environment)


def _is_valid(state: DemoState) -> bool:
    """Return whether every field has its type: these values decide which processes are killed."""
    numbers = [
        number
        for process in (*state.processes(), state.supervisor)
        if process
        for number in (process.pid, process.started)
    ]
    texts = [state.fingerprint, state.checkpoint, state.error]
    for service in state.services:
        numbers += [service.port, service.restarts]
        texts += [service.name, service.health_path, service.log_path, *service.command]
        texts += [text for pair in service.environment for text in pair]
    names = {service.name for service in state.services}
    valid = state.kind in get_args(SupervisorKind) and {"api", "page"} <= names
    numeric = all(type(number) in (int, float) and 0 <= number < _LARGEST_NUMBER for number in numbers)
    return valid and numeric and all(isinstance(text, str) for text in texts)
