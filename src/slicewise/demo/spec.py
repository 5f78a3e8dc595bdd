"""What a supervisor keeps alive: services as data, handed over in a JSON file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slicewise.core.files import write_json
from slicewise.demo.state import ProcessIdentity, ServiceState


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A command that serves a port of this machine and appends what it says to a log file."""

    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    port: int
    health_path: str
    log_path: str

    def state(self, process: ProcessIdentity | None, restarts: int) -> ServiceState:
        return ServiceState(self.name, self.port, self.health_path, self.log_path, process, restarts)


@dataclass(frozen=True, slots=True)
class DemoSpec:
    """Everything a supervisor needs to start a demo and to record it in `home`."""

    home: str
    log_dir: str
    fingerprint: str
    checkpoint: str
    services: tuple[ServiceSpec, ...]

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "DemoSpec":
        value = json.loads(path.read_bytes())
        services = tuple(_parse_service(service) for service in value.pop("services"))
        return cls(**value, services=services)


def _parse_service(value: dict[str, Any]) -> ServiceSpec:
    command = tuple(value.pop("command"))
    environment = tuple((name, text) for name, text in value.pop("environment"))
    return ServiceSpec(**value, command=command, environment=environment)
