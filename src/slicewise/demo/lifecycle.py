"""Start and stop the demo.

Started means: both services pass their health checks, and the API has loaded the expected model.
"""

import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from slicewise.config.schema import Config, Serving
from slicewise.core.console import progress
from slicewise.core.errors import ServingError
from slicewise.demo import pm2, supervisor
from slicewise.demo.commands import CHECKPOINT_NAME, build_api_service, build_page_service
from slicewise.demo.health import is_healthy, served_fingerprint
from slicewise.demo.processes import log_tail, rotate_log
from slicewise.demo.state import DemoState, Service, SupervisorKind, read_state, state_path
from slicewise.serving.endpoints import HOST

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
FIRST_PATIENT: Final = 10_000
"""Training patients count from 0 and stay far below: no bundled case is in a training set."""


class _Backend(NamedTuple):
    """The operations of a kind of supervisor."""

    launch: Callable[[DemoState, Path], DemoState]
    refresh: Callable[[DemoState, Path], DemoState]
    stop: Callable[[DemoState, Path], None]


_BACKENDS: dict[SupervisorKind, _Backend] = {
    "builtin": _Backend(supervisor.launch, supervisor.refresh, supervisor.stop),
    "pm2": _Backend(pm2.launch, pm2.refresh, pm2.stop),
}


def write_cases(folder: Path, num_cases: int, seed: int) -> tuple[Path, ...]:
    """Generate the bundled phantom cases that `folder` does not hold yet; return all case folders."""
    from slicewise.data.phantom.patient import write_patient

    numbers = range(FIRST_PATIENT, FIRST_PATIENT + num_cases)
    bar = progress(numbers, desc="phantom cases", total=num_cases, unit="case")
    return tuple(write_patient(folder, number, seed) for number in bar)


def start_demo(config: Config, home: Path, log_dir: Path, *, fingerprint: str) -> DemoState:
    """Start the API and the page, replacing an earlier demo of the same home.

    Args:
        config: ports, supervisor and the limit of the start-up; device, inference and thresholds.
        home: folder of the checkpoint and the bundled cases; for `demo.json` and the files of the supervisor.
        log_dir: folder for the services' logs.
        fingerprint: of the checkpoint; the API must report it.

    Raises:
        ServingError: a port is taken, a service ended, did not respond in time or serves another model.
            Nothing is left running.
    """
    settings = config.serving
    stop_demo(home)
    _require_free_ports(settings)
    home.mkdir(parents=True, exist_ok=True)
    services = (build_api_service(config, home, log_dir), build_page_service(settings, log_dir))
    for service in services:
        rotate_log(Path(service.log_path))
    kind = settings.supervisor
    if kind == "auto":
        kind = "pm2" if pm2.is_installed() else "builtin"
    state = DemoState(kind, None, fingerprint, str(home.absolute() / CHECKPOINT_NAME), services)
    try:
        return _wait_until_healthy(
            _BACKENDS[kind].launch(state, home.absolute()), home, settings.startup_seconds
        )
    except BaseException:
        stop_demo(home)
        raise


def stop_demo(home: Path) -> bool:
    """Stop the demo of `home`. Return whether one was recorded."""
    state = read_state(home)
    if state is None:
        return False
    _BACKENDS[state.kind].stop(state, home)
    state_path(home).unlink(missing_ok=True)
    return True


def _require_free_ports(settings: Serving) -> None:
    if settings.api_port == settings.page_port:
        raise ServingError(
            f"serving.api_port and serving.page_port are both {settings.api_port}; change one of them"
        )
    for key, port in (("api_port", settings.api_port), ("page_port", settings.page_port)):
        if not is_free(port):
            other = next((other for other in range(port + 10, 65536, 10) if is_free(other)), port + 1)
            raise ServingError(
                f"port {port} is taken by another program; stop it or choose another port, "
                f"for example serving.{key}={other}"
            )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _wait_until_healthy(state: DemoState, home: Path, seconds: float) -> DemoState:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = _BACKENDS[state.kind].refresh(state, home)
        if failed := next((service for service in state.services if service.restarts > 0), None):
            raise ServingError(f"the demo's {failed.name} ended during start-up; {_quote_log(failed)}")
        if all(is_healthy(service) for service in state.services):
            _require_model(state)
            _LOG.info("demo at %s, API at %s, supervised by %s", state.page_url, state.api_url, state.kind)
            return state
        time.sleep(_POLL_SECONDS)
    unhealthy = next((service for service in state.services if not is_healthy(service)), state.services[0])
    raise ServingError(
        f"the demo's {unhealthy.name} did not respond within {seconds:g} s; {_quote_log(unhealthy)}\n"
        "a slow machine may need more: serving.startup_seconds=180"
    )


def _require_model(state: DemoState) -> None:
    api = state.service("api")
    served = served_fingerprint(api)
    if served != state.fingerprint:
        raise ServingError(
            f"the API on port {api.port} serves model {str(served)[:12]}, not {state.fingerprint[:12]}; "
            "if another program uses this port, choose another one with serving.api_port=..."
        )


def _quote_log(service: Service) -> str:
    return f"its log {service.log_path} ends with\n{log_tail(Path(service.log_path))}"
