import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.test_full_disk import Tmpfs, mounted

from slicewise.demo.processes import find_process, identify_process
from slicewise.demo.state import DemoState, is_alive, read_state, state_path, write_state
from slicewise.demo.supervisor import RestartPolicy, Supervisor

FAST = RestartPolicy(first_delay=0.05, longest_delay=0.1, max_failures=3)
MakeDemo = Callable[..., DemoState]


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Running:
    """A supervision in a thread, stopped at the end of the block."""

    def __init__(self, demo: DemoState, home: Path) -> None:
        self.home = home
        self.stopping = threading.Event()
        self.error = "still running"
        self.supervision = Supervisor(demo, home, FAST, self.stopping)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.error = self.supervision.run()

    def __enter__(self) -> "Running":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(20)

    def state(self) -> DemoState:
        state = read_state(self.home)
        assert state is not None
        return state


def test_services_are_started_recorded_and_ended(stub_demo: MakeDemo, home: Path) -> None:
    with Running(stub_demo(), home) as running:
        wait_for(lambda: is_alive(running.home, "abc"))
        assert not is_alive(running.home, "another model")
        processes = running.state().processes()
        assert len(processes) == 2
        assert running.state().supervisor == identify_process(os.getpid())
    assert running.error == ""
    assert [find_process(process) for process in processes] == [None, None]
    assert not is_alive(running.home)


def test_a_killed_service_is_started_again(stub_demo: MakeDemo, home: Path) -> None:
    with Running(stub_demo(), home) as running:
        wait_for(lambda: is_alive(running.home))
        before = running.state().service("api").process
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        wait_for(lambda: running.state().service("api").process not in (None, before))
        wait_for(lambda: running.state().service("api").is_healthy)
        assert running.state().service("api").restarts == 1
        assert running.state().service("page").restarts == 0


def test_a_service_that_keeps_ending_is_given_up_and_named(stub_demo: MakeDemo, home: Path) -> None:
    with Running(stub_demo((sys.executable, "-c", "raise SystemExit(3)")), home) as running:
        running.thread.join(20)
        assert "api ended 4 times in a row" in running.error
        state = running.state()
    assert state.error == running.error
    assert state.processes() == ()
    assert not is_alive(running.home)


def test_the_supervisor_ends_when_its_record_is_removed(stub_demo: MakeDemo, home: Path) -> None:
    with Running(stub_demo(), home) as running:
        wait_for(lambda: state_path(running.home).exists())
        processes = running.state().processes()
        state_path(running.home).unlink()
        running.thread.join(20)
        assert not running.thread.is_alive()
    assert [find_process(process) for process in processes] == [None, None]


def test_sigterm_ends_the_detached_supervisor_and_its_services(stub_demo: MakeDemo, home: Path) -> None:
    write_state(home, stub_demo())
    command = [sys.executable, "-m", "slicewise.demo.supervisor", str(home)]
    with subprocess.Popen(command, start_new_session=True) as popen:
        wait_for(lambda: is_alive(home))
        state = read_state(home)
        assert state is not None
        popen.terminate()
        assert popen.wait(20) == 0
    assert [find_process(process) for process in state.processes()] == [None, None]


@pytest.mark.parametrize(("failures", "delay"), [(1, 0.5), (2, 1.0), (4, 4.0), (50, 30.0)])
def test_restart_delays_double_up_to_a_limit(failures: int, delay: float) -> None:
    assert RestartPolicy().delay(failures) == delay


def test_services_are_started_again_on_a_full_disk_and_recorded_once_there_is_room(
    stub_demo: MakeDemo, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    demo = stub_demo()
    with mounted(home, "-t", "tmpfs", "-o", "size=1m", "tmpfs"), Running(demo, home) as running:
        wait_for(lambda: is_alive(running.home, "abc"))
        before = running.state().service("api").process
        assert before is not None
        disk = Tmpfs(running.home)
        disk.fill()
        os.kill(before.pid, signal.SIGKILL)
        wait_for(lambda: running.supervision.services[0].restarts == 1)
        wait_for(lambda: running.supervision.services[0].state().is_healthy)
        assert running.state().service("api").process == before
        assert sum("is not up to date: the disk is full" in text for text in caplog.messages) == 1
        disk.mend()
        wait_for(lambda: running.state().service("api").restarts == 1)
        wait_for(lambda: is_alive(running.home, "abc"))
    assert running.error == ""
