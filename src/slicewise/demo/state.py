"""A demo in `demo.json`: what its supervisor starts, and how a later command finds, checks and stops it.

Standard library only until a state is read, because `slicewise plan` imports it.
"""

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, write_json
from slicewise.core.typed_json import from_json
from slicewise.serving import HOST

CHECKPOINT_NAME: Final = "best_model.pth"
CASES_DIR: Final = "cases"
RESULTS_DIR: Final = "results"
SupervisorKind = Literal["builtin", "pm2"]
_LARGEST_NUMBER: Final = 1 << 32
"""No pid, count or time in seconds reaches it."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process by id and start time (seconds since 1970): a recycled id is another process."""

    pid: int
    started: float

    def __post_init__(self) -> None:
        _require_within(_LARGEST_NUMBER, self.pid, self.started)


@dataclass(frozen=True, slots=True)
class Service:
    """A command that serves a port of this machine and appends its output to a log file.

    Without a log file (''), its output is that of the supervisor. `host` is where this machine reaches it.
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
    host: str = HOST

    def __post_init__(self) -> None:
        _require_within(1 << 16, self.port)
        socket.inet_pton(socket.AF_INET, self.host)
        _require_within(_LARGEST_NUMBER, self.restarts)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def is_healthy(self) -> bool:
        return http_get(self.port, self.health_path, host=self.host) is not None


@dataclass(frozen=True, slots=True)
class DemoState:
    """A demo: its supervisor, its model, and its services `api` and, unless left out, `page`.

    `fingerprint` is '' where any model is accepted that the API has loaded from `checkpoint`.
    `supervisor` is None under PM2, whose daemon is not ours to stop, and where the supervisor has ended.
    `error` is set when the supervisor gave up.
    """

    kind: SupervisorKind
    supervisor: ProcessIdentity | None
    fingerprint: str
    checkpoint: str
    services: tuple[Service, ...]
    error: str = ""

    def __post_init__(self) -> None:
        if not any(service.name == "api" for service in self.services):
            raise ValueError("a demo has an API")

    def service(self, name: str) -> Service:
        return next(service for service in self.services if service.name == name)

    @property
    def url(self) -> str:
        """Return the address for people: of the page, else of the API."""
        return self.services[-1].url

    def serves_model(self) -> bool:
        """Whether the API has loaded the model of this demo."""
        served = served_fingerprint(self.service("api"))
        return served is not None and self.fingerprint in ("", served)

    def processes(self) -> tuple[ProcessIdentity, ...]:
        """Return the services' processes, without the supervisor's."""
        return tuple(service.process for service in self.services if service.process is not None)


def _require_within(limit: int, *numbers: float) -> None:
    if not all(0 <= number < limit for number in numbers):
        raise ValueError(f"{numbers} are not below {limit}")


def state_path(home: Path) -> Path:
    return home / "demo.json"


def write_state(home: Path, state: DemoState) -> None:
    write_json(state_path(home), asdict(state))


def read_state(home: Path) -> DemoState | None:
    """Return the recorded state, or None where no demo was started or its record cannot be read.

    Every field is checked: these values decide which processes are killed.
    """
    try:
        state: DemoState = from_json(DemoState, read_json(state_path(home)))
    except (OSError, WorkspaceError, TypeError, ValueError):
        return None
    return state


def http_get(port: int, path: str, timeout: float = 2.0, *, host: str = HOST) -> bytes | None:
    """Return the body of a 200 response from this machine, or None for any other outcome.

    One HTTP/1.0 exchange (RFC 1945): importing `http.client` would take longer than the request.
    `timeout` is in seconds.
    """
    request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode()
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.sendall(request)
            response = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except OSError:
        return None
    head, _, body = response.partition(b"\r\n\r\n")
    return body if head.split(maxsplit=2)[1:2] == [b"200"] else None


def served_fingerprint(service: Service) -> str | None:
    """Return the fingerprint of the model that the API has loaded, or None while it is not ready."""
    try:
        response: Any = json.loads(http_get(service.port, service.health_path, host=service.host) or b"")
    except ValueError:
        return None
    fingerprint = response.get("fingerprint") if isinstance(response, dict) else None
    return fingerprint if isinstance(fingerprint, str) else None


def is_alive(home: Path, fingerprint: str | None = None) -> bool:
    """Return whether all services of the demo of `home` are healthy and serve the expected model.

    `fingerprint` None accepts the model with which the demo was started.
    """
    state = read_state(home)
    if state is None or state.error or (fingerprint is not None and state.fingerprint != fingerprint):
        return False
    return state.serves_model() and all(service.is_healthy for service in state.services)
