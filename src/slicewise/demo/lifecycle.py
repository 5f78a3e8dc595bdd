"""Start and stop the demo, in the background or in this process.

Started means: both services pass their health checks, and the API has loaded the expected model.
"""

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Final

from slicewise.config.schema import Config, Serving
from slicewise.core.console import progress
from slicewise.core.errors import ServingError, UsageError
from slicewise.demo import pm2, supervisor
from slicewise.demo.logs import SERVICES, log_path, quote_log, rotate_log
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
    write_state,
)
from slicewise.serving import API_HEALTH, API_KEY_FILE_VARIABLE, API_URL_VARIABLE, HOST, PAGE_HEALTH

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
FIRST_PATIENT: Final = 10_000
"""Training patients count from 0 and stay far below: no bundled case is in a training set."""
_ENVIRONMENT: Final = (("PYTHONUTF8", "1"), ("PYTHONIOENCODING", "utf-8"), ("PYTHONUNBUFFERED", "1"))
"""Logs and names in UTF-8, whatever the locale of the demo; each line is in the log at once."""
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
    settings, checkpoint = config.serving, home / CHECKPOINT_NAME
    services = (api_service(config, home, checkpoint, log_dir), _page_service(settings, log_dir))
    _make_room(settings, home, services)
    log_dir.mkdir(parents=True, exist_ok=True)
    for name in SERVICES:
        rotate_log(log_path(log_dir, name))
    kind = settings.supervisor
    if kind == "auto":
        kind = "pm2" if pm2.is_installed() else "builtin"
    state = DemoState(kind, None, fingerprint, str(checkpoint.absolute()), services)
    try:
        state = _BACKENDS[kind].launch(state, home.absolute())
        return _wait_until_healthy(state, home, settings.startup_seconds)
    except BaseException:
        stop_demo(home)
        raise


def serve(
    config: Config,
    home: Path,
    checkpoint: Path,
    *,
    page_host: str | None,
    announce: Callable[[DemoState], None],
) -> None:
    """Serve a model until SIGTERM or SIGINT, with this process as the supervisor and its output as the log.

    Args:
        config: as of `start_demo`.
        home: as of `start_demo`; the checkpoint need not be in it.
        checkpoint: the model, read where it lies.
        page_host: address of the page, IPv4; None: no page.
        announce: called once the services are healthy, in a thread.

    Raises:
        UsageError, ServingError: as of `start_demo`, or a service ended too often.
    """
    settings = config.serving
    page = () if page_host is None else (_page_service(settings, None, page_host),)
    services = (api_service(config, home, checkpoint, None), *page)
    _make_room(settings, home, services)
    state = DemoState("builtin", None, "", str(checkpoint.absolute()), services)
    write_state(home, state)
    stopping, faults = threading.Event(), list[ServingError]()

    def watch_start() -> None:
        try:
            announce(_wait_until_healthy(state, home, settings.startup_seconds))
        except ServingError as error:
            faults.append(error)
            stopping.set()

    threading.Thread(target=watch_start, name="start", daemon=True).start()
    try:
        error = supervisor.run_until_signal(state, home, stopping)
    finally:
        state_path(home).unlink(missing_ok=True)
    if faults or error:
        raise faults[0] if faults else ServingError(error)


def _make_room(settings: Serving, home: Path, services: Sequence[Service]) -> None:
    """Stop an earlier demo of `home`; refuse settings and ports with which the services cannot start."""
    if settings.api_key_file or not settings.is_local:
        from slicewise.serving.api.access import read_api_key

        read_api_key(settings.api_key_file, settings.host)
    stop_demo(home)
    _require_free_ports(settings, services)
    home.mkdir(parents=True, exist_ok=True)


def current_state(home: Path) -> DemoState | None:
    """Return the state of the demo of `home`, with what its supervisor reports now."""
    state = read_state(home)
    if state is not None:
        with suppress(ServingError):  # PM2 is not on the path of this command
            state = _BACKENDS[state.kind].refresh(state, home)
    return state


def stop_demo(home: Path) -> bool:
    """Stop the demo of `home`. Return whether one was recorded."""
    state = read_state(home)
    if state is None:
        return False
    _BACKENDS[state.kind].stop(state, home)
    state_path(home).unlink(missing_ok=True)
    return True


def api_service(config: Config, home: Path, checkpoint: Path, log_dir: Path | None) -> Service:
    """Return the service that runs the API with a checkpoint and the cases of `home`."""
    module = (
        "slicewise.serving.api.app",
        *("--checkpoint", str(checkpoint.absolute())),
        *("--device", config.runtime.device),
        *("--num-threads", str(config.runtime.num_threads)),
        *("--serving", config.serving.model_dump_json()),
        *("--settings", config.evaluation.model_dump_json()),
        *("--cases", str(home.absolute() / CASES_DIR)),
        *("--results", str(home.absolute() / RESULTS_DIR)),
    )
    return _service("api", config.serving.api_port, API_HEALTH, module, log_dir, config.serving.own_host)


def _service(
    name: str,
    port: int,
    health_path: str,
    module: Sequence[str],
    log_dir: Path | None,
    host: str,
    *environment: tuple[str, str],
) -> Service:
    """Return the service that runs a Python module with its arguments."""
    log = "" if log_dir is None else str(log_path(log_dir, name))
    command = (sys.executable, "-m", *(("slicewise.demo.logs", log) if log else ()), *module)
    return Service(
        *(name, port, health_path, log),
        command=command,
        environment=(*_ENVIRONMENT, *environment),
        host=host,
    )


def _page_service(settings: Serving, log_dir: Path | None, host: str = HOST) -> Service:
    """Return the Streamlit service: no usage statistics, no prompts, no file watcher."""
    own_host = settings.own_host if host == settings.host else host
    options = {
        "server.address": host,
        "server.port": settings.page_port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "server.showEmailPrompt": "false",
        "server.maxUploadSize": settings.max_upload_mib,
        "browser.serverAddress": own_host,
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.light.primaryColor": "#b93c0a",
        "theme.dark.primaryColor": "#fb923c",
    }
    key = ((API_KEY_FILE_VARIABLE, settings.api_key_file),) if settings.api_key_file else ()
    flags = (part for key, value in options.items() for part in (f"--{key}", str(value)))
    page = str(Path(__file__).parents[1] / "serving" / "page" / "server.py")
    module = ("streamlit", "run", page, *flags)
    api_url = (API_URL_VARIABLE, f"http://{settings.own_host}:{settings.api_port}")
    return _service("page", settings.page_port, PAGE_HEALTH, module, log_dir, own_host, api_url, *key)


def _require_free_ports(settings: Serving, services: Sequence[Service]) -> None:
    if settings.api_port == settings.page_port:
        raise ServingError(
            f"serving.api_port and serving.page_port are both {settings.api_port}; change one of them"
        )
    for service in services:
        key, port = f"{service.name}_port", service.port
        host = settings.host if service.host == settings.own_host else service.host
        if not is_free(0, host):
            raise UsageError(f"serving.host={host} is no address of this machine; 0.0.0.0 means all of them")
        if not is_free(port, host):
            other = next((other for other in range(port + 10, 65536, 10) if is_free(other, host)), port + 1)
            raise ServingError(
                f"port {port} is taken by another program; stop it or choose another port, "
                f"for example serving.{key}={other}"
            )


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a port can be bound at an address of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
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
            if not state.serves_model():
                raise ServingError(
                    f"the API on port {api.port} serves model {str(served_fingerprint(api))[:12]}, not "
                    f"{state.fingerprint[:12]}; if another program uses this port, choose another one with "
                    "serving.api_port=..."
                )
            _LOG.info("demo at %s, API at %s, supervised by %s", state.url, api.url, state.kind)
            return state
        time.sleep(_POLL_SECONDS)
    unhealthy = next((service for service in state.services if not service.is_healthy), state.services[0])
    raise ServingError(
        f"the demo's {unhealthy.name} did not respond within {seconds:g} s; {_quote_log(unhealthy)}\n"
        "a slow machine may need more: serving.startup_seconds=180"
    )


def _quote_log(service: Service) -> str:
    if not service.log_path:
        return "see its output above"
    return f"its log {service.log_path} ends with\n{quote_log(Path(service.log_path))}"
