"""Finding and ending processes that are ours, and no others."""

import psutil

from slicewise.demo.state import ProcessIdentity

_CLOCK_SLACK_SECONDS = 2.0
"""Start times are derived from the boot time, which moves a little when the clock is set."""


def identify_process(pid: int) -> ProcessIdentity | None:
    """Return who `pid` is now, or None when nobody is."""
    try:
        return ProcessIdentity(pid, psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def find_process(identity: ProcessIdentity) -> psutil.Process | None:
    """Return the living process that is still the one identified, else None."""
    try:
        process = psutil.Process(identity.pid)
        same = abs(process.create_time() - identity.started) < _CLOCK_SLACK_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def stop_processes(identities: tuple[ProcessIdentity, ...], grace_seconds: float) -> None:
    """Ask each process to end, wait, and kill those that did not. Recycled ids are left alone."""
    processes = [process for identity in identities if (process := find_process(identity)) is not None]
    for process in processes:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, timeout=grace_seconds)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.NoSuchProcess:
        return
