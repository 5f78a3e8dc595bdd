"""Backend `builtin`: SliceWise's own supervisor, a small detached process that keeps the services running.

Started as `python -m slicewise.demo.supervisor HOME`. While it runs, it alone writes the state. SIGTERM,
SIGINT, SIGHUP or the loss of the state file stop both services.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from slicewise.core.disk import describe_disk_error
from slicewise.core.errors import ServingError
from slicewise.core.signals import DUPLICATE_SECONDS
from slicewise.demo.logs import log_path, quote_log
from slicewise.demo.processes import STOP_GRACE_SECONDS, find_process, identify_process, stop_processes
from slicewise.demo.state import DemoState, Service, read_state, state_path, write_state

_LOG = logging.getLogger(__name__)
_TICK_SECONDS = 0.2
_RECORD_SECONDS = 20.0
_launched: list[subprocess.Popen[bytes]] = []
"""Supervisors started by this process: kept, so that Python neither warns about them nor leaves zombies."""


def launch(state: DemoState, home: Path) -> DemoState:
    """Start the supervisor in a session of its own and wait until it has recorded its services.

    Raises:
        ServingError: it ended, or recorded nothing in time.
    """
    write_state(home, state)
    path = log_path(Path(state.services[0].log_path).parent, "supervisor")
    module = ("slicewise.demo.supervisor", str(home.absolute()))
    with path.open("ab") as log:
        popen = subprocess.Popen(
            (sys.executable, "-m", "slicewise.demo.logs", str(path), *module),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=home,
            start_new_session=True,
        )
    _launched.append(popen)
    try:
        return _wait_for_record(popen, home, path)
    except BaseException:
        stop_processes([identify_process(popen.pid)], 2 * STOP_GRACE_SECONDS)
        popen.poll()
        raise


def _wait_for_record(popen: subprocess.Popen[bytes], home: Path, log: Path) -> DemoState:
    deadline = time.monotonic() + _RECORD_SECONDS
    while time.monotonic() < deadline and popen.poll() is None:
        recorded = read_state(home)
        if recorded is not None and recorded.supervisor is not None:
            return recorded
        time.sleep(0.05)
    raise ServingError(f"the demo's supervisor did not start; {log} ends with\n{quote_log(log)}")


def refresh(state: DemoState, home: Path) -> DemoState:
    """Return the state that the supervisor recorded last, without processes that have ended since."""
    latest = read_state(home) or state
    services = tuple(
        replace(service, process=service.process if find_process(service.process) else None)
        for service in latest.services
    )
    supervisor = latest.supervisor if find_process(latest.supervisor) else None
    return replace(latest, services=services, supervisor=supervisor)


def stop(state: DemoState, home: Path) -> None:
    """Stop the supervisor, which stops its services; then stop services that an earlier crash left behind."""
    stop_processes([state.supervisor], 3 * STOP_GRACE_SECONDS)
    stop_processes((read_state(home) or state).processes())
    for popen in _launched:
        popen.poll()


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Exponential backoff. After `stable_seconds` without an exit, the count of failures starts again."""

    first_delay: float = 0.5
    longest_delay: float = 30.0
    max_failures: int = 10
    stable_seconds: float = 60.0

    def delay(self, failures: int) -> float:
        """Return the seconds before the next start."""
        return min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))


class ManagedService:
    """One service and its current process, restarted by a policy."""

    def __init__(self, service: Service, policy: RestartPolicy) -> None:
        self.service = service
        self.policy = policy
        self.restarts = 0
        self.failures = 0
        self.restart_at: float | None = None
        self._launch()

    def _launch(self) -> None:
        self.popen = subprocess.Popen(
            self.service.command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(self.service.environment),
            process_group=0,  # Ctrl-C in a terminal is for the supervisor, which then ends its services
        )
        self.launched_at = time.monotonic()
        self.restart_at = None

    def update(self) -> bool:
        """Register an exit, or restart once the delay is over. Return whether anything changed."""
        now = time.monotonic()
        if self.restart_at is not None:
            if now < self.restart_at:
                return False
            self.restarts += 1
            self._launch()
            return True
        code = self.popen.poll()
        if code is None:
            return False
        stable = now - self.launched_at >= self.policy.stable_seconds
        self.failures = 1 if stable else self.failures + 1
        delay = self.policy.delay(self.failures)
        self.restart_at = now + delay
        _LOG.warning("%s ended with exit code %s; restart in %.1f s", self.service.name, code, delay)
        return True

    def state(self) -> Service:
        process = None if self.popen.poll() is not None else identify_process(self.popen.pid)
        # An exit counts as a restart at once: the process that waits for the start-up sees it without delay.
        restarts = self.restarts + (self.restart_at is not None)
        return replace(self.service, process=process, restarts=restarts)


class Supervisor:
    """Starts the services of one demo, restarts them by a policy and records their state in `home`."""

    def __init__(self, demo: DemoState, home: Path, policy: RestartPolicy, stopping: threading.Event) -> None:
        self.demo = replace(demo, supervisor=identify_process(os.getpid()))
        self.home = home
        self.policy = policy
        self.stopping = stopping
        self.signalled_at: float | None = None
        self.services: list[ManagedService] = []

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Stop in order; at a second signal kill the services."""
        if self.signalled_at is None:
            self.signalled_at = time.monotonic()
            # In a thread: the signal may have interrupted what holds the lock of the event.
            threading.Thread(target=self.stopping.set).start()
        elif time.monotonic() - self.signalled_at > DUPLICATE_SECONDS:
            for service in self.services:
                service.popen.kill()

    def run(self) -> str:
        """Supervise until `stopping` is set or the state file is gone. Return what failed, or ''."""
        error = ""
        try:
            for described in self.demo.services:
                self.services.append(ManagedService(described, self.policy))
            self._write_state()
            recorded = True
            while not error and not self.stopping.wait(_TICK_SECONDS) and state_path(self.home).exists():
                changes = [service.update() for service in self.services]
                if any(changes) or not recorded:
                    recorded = self._try_to_write_state(was_recorded=recorded)
                for service in self.services:
                    if service.failures > service.policy.max_failures:
                        log_path = service.service.log_path or "its output above"
                        error = (
                            f"{service.service.name} ended {service.failures} times in a row; see {log_path}"
                        )
        finally:
            stop_processes([service.state().process for service in self.services])
            for service in self.services:
                service.popen.poll()
        if error:
            self._try_to_write_state(error)
        return error

    def _try_to_write_state(self, error: str = "", *, was_recorded: bool = True) -> bool:
        """Record the services; on a disk error they run on unrecorded until it can be written again."""
        try:
            self._write_state(error)
        except OSError as fault:
            if was_recorded:
                _LOG.error("%s is not up to date: %s", state_path(self.home), describe_disk_error(fault))
            return False
        return True

    def _write_state(self, error: str = "") -> None:
        services = tuple(service.state() for service in self.services)
        write_state(self.home, replace(self.demo, services=services, error=error))


def run_until_signal(demo: DemoState, home: Path, stopping: threading.Event) -> str:
    """Supervise in this process until SIGTERM, SIGINT, SIGHUP or `stopping`. Return what failed, or ''."""
    supervisor = Supervisor(demo, home, RestartPolicy(), stopping)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # `nohup` ignores SIGHUP
            signal.signal(number, supervisor.on_signal)
    return supervisor.run()


def main(argv: Sequence[str]) -> int:
    """Supervise the demo recorded in the folder that the only argument names."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    home = Path(argv[0])
    demo = read_state(home)
    error = run_until_signal(demo, home, threading.Event()) if demo else f"{home} records no demo"
    if error:
        _LOG.error("%s", error)
    return int(bool(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
