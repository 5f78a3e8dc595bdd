"""The demo under PM2 (https://pm2.keymetrics.io), where that is installed."""

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from slicewise.core.errors import ServingError
from slicewise.core.files import write_json
from slicewise.demo.processes import identify_process, stop_processes
from slicewise.demo.spec import DemoSpec, ServiceSpec
from slicewise.demo.state import DemoState, ServiceState, write_state

_COMMAND_SECONDS = 60.0
_GRACE_SECONDS = 5.0
ECOSYSTEM = "ecosystem.config.json"


def is_installed() -> bool:
    return shutil.which("pm2") is not None


def app_name(service: str, home: Path) -> str:
    """Return the service's name under PM2, which is shared by all workspaces of a user."""
    workspace = hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:8]
    return f"slicewise-{service}-{workspace}"


def ecosystem(spec: DemoSpec) -> dict[str, Any]:
    """Return the ecosystem file (https://pm2.keymetrics.io/docs/usage/application-declaration)."""
    return {"apps": [_app_declaration(service, Path(spec.home)) for service in spec.services]}


def _app_declaration(service: ServiceSpec, home: Path) -> dict[str, Any]:
    return {
        "name": app_name(service.name, home),
        "script": service.command[0],
        "args": list(service.command[1:]),
        "interpreter": "none",
        "cwd": str(home),
        "env": dict(service.environment),
        "out_file": service.log_path,
        "error_file": service.log_path,
        "merge_logs": True,
        "autorestart": True,
        "exp_backoff_restart_delay": 500,
        "max_restarts": 10,
        "kill_timeout": 5000,
    }


def launch(spec: DemoSpec) -> DemoState:
    """Hand the services to PM2 and record them.

    Raises:
        ServingError: PM2 is missing or refuses.
    """
    home = Path(spec.home)
    path = home / ECOSYSTEM
    write_json(path, ecosystem(spec))
    services = tuple(service.state(None, 0) for service in spec.services)
    state = DemoState("pm2", None, spec.fingerprint, spec.checkpoint, services)
    write_state(home, state)  # before the start: whatever happens next, `stop` finds the names
    _pm2("start", str(path))
    state = refresh(state, home)
    write_state(home, state)
    return state


def refresh(state: DemoState, home: Path) -> DemoState:
    """Return the state with the processes and restart counts PM2 reports now."""
    reported = {app["name"]: app for app in parse_jlist(_pm2("jlist"))}
    services = tuple(
        _with_pm2_status(service, reported.get(app_name(service.name, home))) for service in state.services
    )
    return replace(state, services=services)


def parse_jlist(output: str) -> list[dict[str, Any]]:
    """Return the applications in the output of `pm2 jlist`, which may chat before and after the JSON."""
    start = output.find("[{")
    if start < 0:
        return []
    apps: list[dict[str, Any]] = json.JSONDecoder().raw_decode(output[start:])[0]
    return apps


def _with_pm2_status(service: ServiceState, app: dict[str, Any] | None) -> ServiceState:
    if app is None:
        return replace(service, process=None)
    pm2_env = app["pm2_env"]
    online = pm2_env["status"] == "online"
    restarts = pm2_env["restart_time"] + (pm2_env["status"] in ("errored", "stopped", "waiting restart"))
    return replace(service, process=identify_process(app["pid"]) if online else None, restarts=restarts)


def stop(state: DemoState, home: Path) -> None:
    """Take the services out of PM2 by name; then end a process of theirs that PM2 no longer knew."""
    if is_installed():
        for service in state.services:
            _run("delete", app_name(service.name, home))  # fails where PM2 no longer knows the name
    stop_processes(state.processes(), grace_seconds=_GRACE_SECONDS)


def _pm2(*arguments: str) -> str:
    done = _run(*arguments)
    if done.returncode != 0:
        message = (done.stderr + done.stdout).strip()[-800:]
        raise ServingError(
            f"`pm2 {' '.join(arguments)}` failed: {message}\n"
            "mend PM2, or let SliceWise supervise the demo itself with serving.supervisor=builtin"
        )
    return done.stdout


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ("pm2", *arguments), capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServingError(
            f"PM2 cannot be run ({error}); install it (npm install -g pm2) or use serving.supervisor=builtin"
        ) from error
