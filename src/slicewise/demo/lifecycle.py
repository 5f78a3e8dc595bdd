"""Start and stop the demo.

Started means: both services pass their health checks, and the API has loaded the expected model.
"""

import logging
import socket
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Final

from slicewise.config.schema import Config, Serving
from slicewise.core.console import progress
from slicewise.core.errors import ServingError
from slicewise.demo import pm2, supervisor
from slicewise.demo.processes import log_tail, rotate_log
from slicewise.demo.state import (
    CASES_DIR,
    CHECKPOINT_NAME,
    RESULTS_DIR,
    DemoState,
    Service,
    SupervisorKind,
    read_state,
    served_fingerprint,
    state_path,
)
from slicewise.serving import API_HEALTH, API_KEY_FILE_VARIABLE, API_URL_VARIABLE, HOST, PAGE_HEALTH

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
FIRST_PATIENT: Final = 10_000
"""Training patients count from 0 and stay far below: no bundled case is in a training set."""
_UTF8: Final = (("PYTHONUTF8", "1"), ("PYTHONIOENCODING", "utf-8"))
"""Logs and names in UTF-8, whatever the locale of the demo."""
_BACKENDS: Final[dict[SupervisorKind, ModuleType]] = {"builtin": supervisor, "pm2": pm2}
"""Modules with `launch`, `refresh` and `stop`."""


def write_cases(folder: Path, num_cases: int, seed: int) -> tuple[Path, ...]:
    """Generate the bundled phantom cases that `folder` does not hold yet; return all case folders."""
    from slicewise.data.phantom.patients import write_patient

    numbers = range(FIRST_PATIENT, FIRST_PATIENT + num_cases)
    bar = progress(numbers, desc="phantom cases", total=num_cases, unit="case")
    return tuple(write_patient(folder, number, seed) for number in bar)


def start_demo(config: Config, home: Path, log_dir: Path, *, fingerprint: str) -> DemoState:
    """Start the API and the page, replacing an earlier demo of the same home.

    Args:
        config: the sections serving, runtime and evaluation are used.
        home: folder of the checkpoint and the bundled cases, and of `demo.json`.
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
    services = (api_service(config, home, log_dir), _page_service(settings, log_dir))
    for service in services:
        rotate_log(Path(service.log_path))
    kind = settings.supervisor
    if kind == "auto":
        kind = "pm2" if pm2.is_installed() else "builtin"
    state = DemoState(kind, None, fingerprint, str(home.absolute() / CHECKPOINT_NAME), services)
    try:
        state = _BACKENDS[kind].launch(state, home.absolute())
        return _wait_until_healthy(state, home, settings.startup_seconds)
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


def api_service(config: Config, home: Path, log_dir: Path) -> Service:
    """Return the service that runs the API with the checkpoint and the cases of `home`."""
    command = (
        *(sys.executable, "-m", "slicewise.serving.api.app"),
        *("--checkpoint", str(home.absolute() / CHECKPOINT_NAME)),
        *("--device", config.runtime.device),
        *("--num-threads", str(config.runtime.num_threads)),
        *("--serving", config.serving.model_dump_json()),
        *("--settings", config.evaluation.model_dump_json()),
        *("--cases", str(home.absolute() / CASES_DIR)),
        *("--results", str(home.absolute() / RESULTS_DIR)),
    )
    log_path = str(log_dir.absolute() / "demo-api.log")
    return Service("api", config.serving.api_port, API_HEALTH, log_path, command=command, environment=_UTF8)


def _page_service(settings: Serving, log_dir: Path) -> Service:
    """Return the Streamlit service: local only, no usage statistics, no prompts, no file watcher."""
    options = {
        "server.address": HOST,
        "server.port": settings.page_port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "server.showEmailPrompt": "false",
        "server.maxUploadSize": settings.max_upload_mib,
        "browser.serverAddress": HOST,
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.light.primaryColor": "#b93c0a",
        "theme.dark.primaryColor": "#fb923c",
    }
    key = ((API_KEY_FILE_VARIABLE, settings.api_key_file),) if settings.api_key_file else ()
    flags = (part for key, value in options.items() for part in (f"--{key}", str(value)))
    page = str(Path(__file__).parents[1] / "serving" / "page" / "server.py")
    return Service(
        "page",
        settings.page_port,
        PAGE_HEALTH,
        str(log_dir.absolute() / "demo-page.log"),
        command=(sys.executable, "-m", "streamlit", "run", page, *flags),
        environment=(*_UTF8, (API_URL_VARIABLE, f"http://{HOST}:{settings.api_port}"), *key),
    )


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
    """Whether a port of this machine can be bound."""
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
        if all(service.is_healthy for service in state.services):
            api = state.service("api")
            served = served_fingerprint(api)
            if served != state.fingerprint:
                raise ServingError(
                    f"the API on port {api.port} serves model {str(served)[:12]}, not "
                    f"{state.fingerprint[:12]}; if another program uses this port, choose another one with "
                    "serving.api_port=..."
                )
            _LOG.info("demo at %s, API at %s, supervised by %s", state.page_url, api.url, state.kind)
            return state
        time.sleep(_POLL_SECONDS)
    unhealthy = next((service for service in state.services if not service.is_healthy), state.services[0])
    raise ServingError(
        f"the demo's {unhealthy.name} did not respond within {seconds:g} s; {_quote_log(unhealthy)}\n"
        "a slow machine may need more: serving.startup_seconds=180"
    )


def _quote_log(service: Service) -> str:
    return f"its log {service.log_path} ends with\n{log_tail(Path(service.log_path))}"
