"""Backend `pm2`: the demo under PM2 (https://pm2.keymetrics.io).

The services write and rotate their logs themselves: PM2 needs a module for that,
which it fetches when it is installed.
"""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from slicewise.core.errors import ServingError
from slicewise.core.files import write_json
from slicewise.demo.processes import identify_process, stop_processes
from slicewise.demo.state import DemoState, write_state

_COMMAND_SECONDS = 60.0
_DOWN = ("errored", "stopped", "waiting restart")
_ENVIRONMENT = {"PM2_DISABLE_VERSION_CHECK": "true", "PM2_KILL_SIGNAL": "SIGTERM"}
"""For a daemon that our command starts: it asks no server for its newest version."""
_WAY_OUT = "use SliceWise's own supervisor with serving.supervisor=builtin"


def is_installed() -> bool:
    return shutil.which("pm2") is not None


def app_name(service: str, home: Path) -> str:
    """Return the service's name under PM2, which is shared by all workspaces of a user."""
    workspace = hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:8]
    return f"slicewise-{service}-{workspace}"


def ecosystem(state: DemoState, home: Path) -> dict[str, Any]:
    """Return the ecosystem file (https://pm2.keymetrics.io/docs/usage/application-declaration)."""
    apps = [
        {
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
            "watch": False,
            "vizion": False,  # no look at a Git repository around `cwd`
            "exp_backoff_restart_delay": 500,
            "max_restarts": 10,
            "min_uptime": 60_000,  # ms; a service that ends earlier counts towards `max_restarts`
            "kill_timeout": 5000,
        }
        for service in state.services
    ]
    return {"apps": apps}


def launch(state: DemoState, home: Path) -> DemoState:
    """Start the services under PM2 and record them.

    Raises:
        ServingError: PM2 is missing or fails.
    """
    path = home / "ecosystem.config.json"
    write_json(path, ecosystem(state, home))
    write_state(home, state)  # before the start: whatever happens next, `stop` finds the names
    _pm2("start", str(path))
    state = refresh(state, home)
    write_state(home, state)
    return state


def refresh(state: DemoState, home: Path) -> DemoState:
    """Return the state with the processes and restart counts that PM2 reports now."""
    reported = {app["name"]: app for app in parse_jlist(_pm2("jlist"))}
    services = []
    for service in state.services:
        app = reported.get(app_name(service.name, home))
        process, restarts = None, service.restarts
        if app is not None:
            status = app["pm2_env"]["status"]
            process = identify_process(app["pid"]) if status == "online" else None
            restarts = app["pm2_env"]["restart_time"] + (status in _DOWN)
        services.append(replace(service, process=process, restarts=restarts))
    return replace(state, services=tuple(services))


def parse_jlist(output: str) -> list[dict[str, Any]]:
    """Return the applications from the output of `pm2 jlist`, which may have text around the JSON."""
    start = output.find("[{")
    if start < 0:
        return []
    apps: list[dict[str, Any]] = json.JSONDecoder().raw_decode(output[start:])[0]
    return apps


def stop(state: DemoState, home: Path) -> None:
    """Delete the services from PM2 by name; then stop processes of theirs that PM2 no longer knows."""
    if is_installed():
        for service in state.services:  # fails where PM2 no longer knows the name
            _pm2("delete", app_name(service.name, home), check=False)
    stop_processes(state.processes())


def _pm2(*arguments: str, check: bool = True) -> str:
    command = ("pm2", *arguments)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=check,
            env=_ENVIRONMENT | os.environ,
        )
    except subprocess.CalledProcessError as error:
        message = (error.stderr + error.stdout).strip()[-800:]
        raise ServingError(f"`{' '.join(command)}` failed: {message}\nfix PM2, or {_WAY_OUT}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServingError(
            f"PM2 cannot be run ({error}); install it (npm install -g pm2), or {_WAY_OUT}"
        ) from error
    return done.stdout
