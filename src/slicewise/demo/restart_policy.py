"""One service kept alive: started, watched, started again with growing delays, and ended."""

import logging
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slicewise.core.disk import describe_disk_error
from slicewise.demo.processes import identify_process
from slicewise.demo.spec import ServiceSpec
from slicewise.demo.state import ProcessIdentity, ServiceState

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Exponential backoff. A service that ran for `stable_seconds` starts again with a clean slate."""

    first_delay: float = 0.5
    longest_delay: float = 30.0
    max_failures: int = 10
    stable_seconds: float = 60.0

    def delay(self, failures: int) -> float:
        return min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))


class ManagedService:
    """One service and the process that currently serves it."""

    def __init__(self, service: ServiceSpec, policy: RestartPolicy) -> None:
        self.service = service
        self.policy = policy
        self.restarts = 0
        self.failures = 0
        self.restart_at: float | None = None
        self._launch()

    def _launch(self) -> None:
        with self._log() as log:
            self.popen = subprocess.Popen(
                self.service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(self.service.environment),
            )
        self.launched_at = time.monotonic()
        self.restart_at = None

    def _log(self) -> IO[bytes]:
        """Open the log; a service whose log cannot be written runs without one."""
        try:
            return Path(self.service.log_path).open("ab")
        except OSError as error:
            _LOG.error(
                "%s: %s; %s runs without a log",
                self.service.log_path,
                describe_disk_error(error),
                self.service.name,
            )
            return Path(os.devnull).open("ab")

    @property
    def restarts_exhausted(self) -> bool:
        return self.failures > self.policy.max_failures

    def update(self) -> bool:
        """Notice a death, or restart once the delay is over. Return whether anything changed."""
        now = time.monotonic()
        if self.restart_at is None:
            return self._handle_exit(now)
        if now < self.restart_at:
            return False
        self.restarts += 1
        self._launch()
        return True

    def _handle_exit(self, now: float) -> bool:
        code = self.popen.poll()
        if code is None:
            return False
        stable = now - self.launched_at >= self.policy.stable_seconds
        self.failures = 1 if stable else self.failures + 1
        delay = self.policy.delay(self.failures)
        self.restart_at = now + delay
        _LOG.warning("%s ended with code %s; starting it again in %.1f s", self.service.name, code, delay)
        return True

    def process(self) -> ProcessIdentity | None:
        return None if self.popen.poll() is not None else identify_process(self.popen.pid)

    def state(self) -> ServiceState:
        # A death counts as a restart at once: whoever waits for the start-up learns of it without delay.
        return self.service.state(self.process(), self.restarts + (self.restart_at is not None))

    def terminate(self, grace_seconds: float) -> None:
        """Terminate the process; kill it when it has not gone after the grace time."""
        if self.popen.poll() is not None:
            return
        self.popen.terminate()
        try:
            self.popen.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
