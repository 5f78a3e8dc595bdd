"""SliceWise's own supervisor: a small detached process that keeps the demo's services alive.

Started as `python -m slicewise.demo.supervisor SPEC.json`. While it lives, it alone writes the state.
SIGTERM, SIGINT or the loss of the state file end both services.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from slicewise.core.disk import describe_disk_error
from slicewise.demo.processes import identify_process
from slicewise.demo.restart_policy import ManagedService, RestartPolicy
from slicewise.demo.spec import DemoSpec
from slicewise.demo.state import DemoState, state_path, write_state

_LOG = logging.getLogger(__name__)
STOP_GRACE_SECONDS = 5.0
_TICK_SECONDS = 0.2


class Supervisor:
    """The services of one demo, and the record of them.

    Args:
        spec: what to start, and the home to record it in.
        policy: how patiently a service that ends is started again.
    """

    def __init__(self, spec: DemoSpec, policy: RestartPolicy) -> None:
        self.spec = spec
        self.home = Path(spec.home)
        self.identity = identify_process(os.getpid())
        self.kept = [ManagedService(service, policy) for service in spec.services]

    def run(self, stopping: threading.Event) -> str:
        """Tend the services until `stopping` is set or the record is gone. Return what went wrong, or ''."""
        error = ""
        try:
            self._write_state()
            recorded = True
            while not error and not stopping.wait(_TICK_SECONDS) and state_path(self.home).exists():
                changes = [service.update() for service in self.kept]
                if any(changes) or not recorded:
                    recorded = self._try_to_write_state(was_recorded=recorded)
                error = self._failure_message()
        finally:
            for service in self.kept:
                service.terminate(STOP_GRACE_SECONDS)
        if error:
            self._try_to_write_state(error)
        return error

    def _failure_message(self) -> str:
        failed = next((service for service in self.kept if service.restarts_exhausted), None)
        if failed is None:
            return ""
        return f"{failed.service.name} ended {failed.failures} times in a row; see {failed.service.log_path}"

    def _try_to_write_state(self, error: str = "", *, was_recorded: bool = True) -> bool:
        """Record the services; on a full or closed disk they go on without, until there is room again."""
        try:
            self._write_state(error)
        except OSError as fault:
            if was_recorded:
                _LOG.error("%s is not up to date: %s", state_path(self.home), describe_disk_error(fault))
            return False
        return True

    def _write_state(self, error: str = "") -> None:
        spec = self.spec
        services = tuple(service.state() for service in self.kept)
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
