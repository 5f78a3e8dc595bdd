"""Find and stop our own processes, and no others."""

from collections.abc import Iterable
from contextlib import suppress

import psutil

from slicewise.demo.state import ProcessIdentity

STOP_GRACE_SECONDS = 5.0
"""Between the request to end and the kill."""
_CLOCK_SLACK_SECONDS = 2.0
"""Start times are derived from the boot time, which moves a little when the clock is set."""


def identify_process(pid: int) -> ProcessIdentity | None:
    """Return the identity of the process that has this id now, or None."""
    try:
        return ProcessIdentity(pid, psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def find_process(identity: ProcessIdentity | None) -> psutil.Process | None:
    """Return the running process with this identity, or None."""
    if identity is None:
        return None
    try:
        process = psutil.Process(identity.pid)
        same = abs(process.create_time() - identity.started) < _CLOCK_SLACK_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def stop_processes(
    identities: Iterable[ProcessIdentity | None], grace_seconds: float = STOP_GRACE_SECONDS
) -> None:
    """Terminate the processes; kill those still running after the grace time. Recycled ids are left alone."""
    processes = [process for identity in identities if (process := find_process(identity)) is not None]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=grace_seconds)
