import subprocess
import sys
from collections.abc import Iterator

import pytest

from slicewise.demo.processes import find_process, identify_process, stop_processes
from slicewise.demo.state import ProcessIdentity


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    popen = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield popen
    popen.kill()
    popen.wait()


def test_a_process_is_found_by_pid_and_start_time(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identify_process(sleeper.pid)
    assert identity is not None
    assert find_process(identity) is not None


def test_a_recycled_pid_is_never_stopped(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identify_process(sleeper.pid)
    assert identity is not None
    stop_processes((ProcessIdentity(identity.pid, identity.started - 100),), grace_seconds=1)
    assert sleeper.poll() is None


def test_stop_ends_the_process(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identify_process(sleeper.pid)
    assert identity is not None
    stop_processes((identity,), grace_seconds=5)
    assert find_process(identity) is None


def test_a_process_that_ignores_the_request_is_killed() -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        identity = identify_process(popen.pid)
        assert identity is not None
        stop_processes((identity,), grace_seconds=0.3)
        assert find_process(identity) is None


def test_a_process_that_has_gone_is_nobody() -> None:
    popen = subprocess.Popen([sys.executable, "-c", ""])
    popen.wait()
    assert identify_process(popen.pid) is None
