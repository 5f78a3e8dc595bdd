"""SliceWise's own supervisor: a small detached process that keeps the demo's services running.

Started as `python -m slicewise.demo.supervisor SPEC.json`. While it runs, it alone writes the state.
SIGTERM, SIGINT or the loss of the state file stop both services.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slicewise.core.disk import describe_disk_error
from slicewise.demo.processes import STOP_GRACE_SECONDS, identify_process, terminate
from slicewise.demo.spec import DemoSpec, ServiceSpec
from slicewise.demo.state import DemoState, ServiceState, state_path, write_state

_LOG = logging.getLogger(__name__)
_TICK_SECONDS = 0.2


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

    def __init__(self, service: ServiceSpec, policy: RestartPolicy) -> None:
        self.service = service
        self.policy = policy
        self.restarts = 0
        self.failures = 0
        self.restart_at: float | None = None
        self._launch()

    def _launch(self) -> None:
        with self._open_log() as log:
            self.popen = subprocess.Popen(
                self.service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(self.service.environment),
            )
        self.launched_at = time.monotonic()
        self.restart_at = None

    def _open_log(self) -> IO[bytes]:
        """Open the log; a service whose log cannot be written runs without one."""
        name, log_path = self.service.name, self.service.log_path
        try:
            return Path(log_path).open("ab")
        except OSError as error:
            _LOG.error("%s: %s; %s runs without a log", log_path, describe_disk_error(error), name)
            return Path(os.devnull).open("ab")

    @property
    def restarts_exhausted(self) -> bool:
        return self.failures > self.policy.max_failures

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

    def state(self) -> ServiceState:
        process = None if self.popen.poll() is not None else identify_process(self.popen.pid)
        # An exit counts as a restart at once: the process that waits for the start-up sees it without delay.
        return self.service.state(process, self.restarts + (self.restart_at is not None))


class Supervisor:
    """Starts the services of one demo, restarts them and records their state.

    Args:
        spec: what to start, and the home to record it in.
        policy: when a service that ended is started again.
    """

    def __init__(self, spec: DemoSpec, policy: RestartPolicy) -> None:
        self.spec = spec
        self.home = Path(spec.home)
        self.identity = identify_process(os.getpid())
        self.services = [ManagedService(service, policy) for service in spec.services]

    def run(self, stopping: threading.Event) -> str:
        """Supervise until `stopping` is set or the state file is gone. Return what failed, or ''."""
        error = ""
        try:
            self._write_state()
            recorded = True
            while not error and not stopping.wait(_TICK_SECONDS) and state_path(self.home).exists():
                changes = [service.update() for service in self.services]
                if any(changes) or not recorded:
                    recorded = self._try_to_write_state(was_recorded=recorded)
                error = self._failure_message()
        finally:
            for service in self.services:
                terminate(service.popen, STOP_GRACE_SECONDS)
        if error:
            self._try_to_write_state(error)
        return error

    def _failure_message(self) -> str:
        failed = next((service for service in self.services if service.restarts_exhausted), None)
        if failed is None:
            return ""
        return f"{failed.service.name} ended {failed.failures} times in a row; see {failed.service.log_path}"

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
        spec = self.spec
        services = tuple(service.state() for service in self.services)
        write_state(
            self.home, DemoState("builtin", self.identity, spec.fingerprint, spec.checkpoint, services, error)
        )


def main(argv: Sequence[str]) -> int:
    """Supervise the demo described in the file named by the only argument."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    spec = DemoSpec.load(Path(argv[0]))
    error = Supervisor(spec, RestartPolicy()).run(stopping)
    if error:
        _LOG.error("%s", error)
    return int(bool(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
