"""The demo under SliceWise's own supervisor."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from slicewise.core.errors import ServingError
from slicewise.demo.logs import log_tail, rotate_log
from slicewise.demo.processes import find_process, stop_processes
from slicewise.demo.spec import DemoSpec
from slicewise.demo.state import DemoState, ServiceState, read_state
from slicewise.demo.supervisor import STOP_GRACE_SECONDS

_RECORD_SECONDS = 20.0
_launched: list[subprocess.Popen[bytes]] = []
"""Supervisors this process started: kept, so that Python neither warns about them nor leaves zombies."""


def launch(spec: DemoSpec) -> DemoState:
    """Start the supervisor in a session of its own and wait until it has recorded its services.

    Raises:
        ServingError: it ended, or wrote nothing for a while.
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
        _terminate(popen)
        raise


def _wait_for_state(popen: subprocess.Popen[bytes], home: Path, log_path: Path) -> DemoState:
    deadline = time.monotonic() + _RECORD_SECONDS
    while time.monotonic() < deadline and popen.poll() is None:
        if (state := read_state(home)) is not None:
            return state
        time.sleep(0.05)
    raise ServingError(f"the demo's supervisor did not start; {log_path} ends with\n{log_tail(log_path)}")


def _terminate(popen: subprocess.Popen[bytes]) -> None:
    popen.terminate()
    try:
        popen.wait(2 * STOP_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def refresh(state: DemoState, home: Path) -> DemoState:
    """Return the state as its supervisor recorded it last, without processes that have gone since."""
    latest = read_state(home) or state
    services = tuple(_without_dead_process(service) for service in latest.services)
    orphaned = latest.supervisor is None or find_process(latest.supervisor) is None
    return replace(latest, services=services, supervisor=None if orphaned else latest.supervisor)


def _without_dead_process(service: ServiceState) -> ServiceState:
    gone = service.process is None or find_process(service.process) is None
    return replace(service, process=None) if gone else service


def stop(state: DemoState, home: Path) -> None:
    """End the supervisor, which ends its services; then end services that an earlier crash left behind."""
    if state.supervisor is not None:
        stop_processes((state.supervisor,), grace_seconds=3 * STOP_GRACE_SECONDS)
    stop_processes((read_state(home) or state).processes(), grace_seconds=STOP_GRACE_SECONDS)
    for popen in _launched:
        popen.poll()
