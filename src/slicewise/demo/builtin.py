"""Backend `builtin`: the demo under SliceWise's own supervisor."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from slicewise.core.errors import ServingError
from slicewise.demo.processes import (
    STOP_GRACE_SECONDS,
    find_process,
    log_tail,
    rotate_log,
    stop_processes,
    terminate,
)
from slicewise.demo.spec import DemoSpec
from slicewise.demo.state import DemoState, read_state

_RECORD_SECONDS = 20.0
_launched: list[subprocess.Popen[bytes]] = []
"""Supervisors started by this process: kept, so that Python neither warns about them nor leaves zombies."""


def launch(spec: DemoSpec) -> DemoState:
    """Start the supervisor in a session of its own and wait until it has recorded its services.

    Raises:
        ServingError: it ended, or recorded nothing in time.
    """
    home = Path(spec.home)
    spec_path, log_path = home / "demo-spec.json", Path(spec.log_dir) / "demo-supervisor.log"
    spec.save(spec_path)
    rotate_log(log_path)
    with log_path.open("ab") as log:
        popen = subprocess.Popen(
            (sys.executable, "-m", "slicewise.demo.supervisor", str(spec_path.absolute())),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=home,
            start_new_session=True,
        )
    _launched.append(popen)
    try:
        return _wait_for_state(popen, home, log_path)
    except BaseException:
        terminate(popen, 2 * STOP_GRACE_SECONDS)
        raise


def _wait_for_state(popen: subprocess.Popen[bytes], home: Path, log_path: Path) -> DemoState:
    deadline = time.monotonic() + _RECORD_SECONDS
    while time.monotonic() < deadline and popen.poll() is None:
        if (state := read_state(home)) is not None:
            return state
        time.sleep(0.05)
    raise ServingError(f"the demo's supervisor did not start; {log_path} ends with\n{log_tail(log_path)}")


def refresh(state: DemoState, home: Path) -> DemoState:
    """Return the state that the supervisor recorded last, without processes that have ended since."""
    latest = read_state(home) or state
    services = tuple(
        replace(service, process=service.process if find_process(service.process) else None)
        for service in latest.services
    )
    return replace(
        latest, services=services, supervisor=latest.supervisor if find_process(latest.supervisor) else None
    )


def stop(state: DemoState, home: Path) -> None:
    """Stop the supervisor, which stops its services; then stop services that an earlier crash left behind."""
    if state.supervisor is not None:
        stop_processes((state.supervisor,), grace_seconds=3 * STOP_GRACE_SECONDS)
    stop_processes((read_state(home) or state).processes(), grace_seconds=STOP_GRACE_SECONDS)
    for popen in _launched:
        popen.poll()
