"""Services as data, passed to a supervisor in a JSON file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from slicewise.core.files import write_json
from slicewise.demo.state import ProcessIdentity, ServiceState


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A command that serves a port of this machine and appends its output to a log file."""

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
    """What a supervisor needs to start a demo and to record it in `home`."""

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
        for service in value["services"]:
            service["command"] = tuple(service["command"])
            service["environment"] = tuple((name, text) for name, text in service["environment"])
        services = tuple(ServiceSpec(**service) for service in value.pop("services"))
        return cls(**value, services=services)
