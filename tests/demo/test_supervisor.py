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

from slicewise.demo.health import is_alive, is_healthy
from slicewise.demo.processes import find_process, identify_process
from slicewise.demo.spec import DemoSpec
from slicewise.demo.state import DemoState, read_state, state_path
from slicewise.demo.supervisor import RestartPolicy, Supervisor

FAST = RestartPolicy(first_delay=0.05, longest_delay=0.1, max_failures=3)
MakeSpec = Callable[..., DemoSpec]


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Running:
    """A supervision in a thread, stopped at the end of the block."""

    def __init__(self, spec: DemoSpec) -> None:
        self.home = Path(spec.home)
        self.stopping = threading.Event()
        self.error = "still running"
        self.supervision = Supervisor(spec, FAST)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.error = self.supervision.run(self.stopping)

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


def test_services_are_started_recorded_and_ended(stub_spec: MakeSpec) -> None:
    with Running(stub_spec()) as running:
        wait_for(lambda: is_alive(running.home, "abc"))
        assert not is_alive(running.home, "another model")
        processes = running.state().processes()
        assert len(processes) == 2
        assert running.state().supervisor == identify_process(os.getpid())
    assert running.error == ""
    assert [find_process(process) for process in processes] == [None, None]
    assert not is_alive(running.home)


def test_a_killed_service_is_started_again(stub_spec: MakeSpec) -> None:
    with Running(stub_spec()) as running:
        wait_for(lambda: is_alive(running.home))
        before = running.state().service("api").process
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        wait_for(lambda: running.state().service("api").process not in (None, before))
        wait_for(lambda: is_healthy(running.state().service("api")))
        assert running.state().service("api").restarts == 1
        assert running.state().service("page").restarts == 0


def test_a_service_that_keeps_ending_is_given_up_and_named(stub_spec: MakeSpec) -> None:
    with Running(stub_spec((sys.executable, "-c", "raise SystemExit(3)"))) as running:
        running.thread.join(20)
        assert "api ended 4 times in a row" in running.error
        state = running.state()
    assert state.error == running.error
    assert state.processes() == ()
    assert not is_alive(running.home)


def test_the_supervisor_ends_when_its_record_is_removed(stub_spec: MakeSpec) -> None:
    with Running(stub_spec()) as running:
        wait_for(lambda: state_path(running.home).exists())
        processes = running.state().processes()
        state_path(running.home).unlink()
        running.thread.join(20)
        assert not running.thread.is_alive()
    assert [find_process(process) for process in processes] == [None, None]


def test_sigterm_ends_the_detached_supervisor_and_its_services(stub_spec: MakeSpec, tmp_path: Path) -> None:
    spec = stub_spec()
    spec.save(tmp_path / "spec.json")
    command = [sys.executable, "-m", "slicewise.demo.supervisor", str(tmp_path / "spec.json")]
    with subprocess.Popen(command, start_new_session=True) as popen:
        wait_for(lambda: is_alive(Path(spec.home)))
        state = read_state(Path(spec.home))
        assert state is not None
        popen.terminate()
        assert popen.wait(20) == 0
    assert [find_process(process) for process in state.processes()] == [None, None]


@pytest.mark.parametrize(("failures", "delay"), [(1, 0.5), (2, 1.0), (4, 4.0), (50, 30.0)])
def test_restart_delays_double_up_to_a_limit(failures: int, delay: float) -> None:
    assert RestartPolicy().delay(failures) == delay


def test_a_spec_survives_its_file(stub_spec: MakeSpec, tmp_path: Path) -> None:
    spec = stub_spec()
    spec.save(tmp_path / "spec.json")
    assert DemoSpec.load(tmp_path / "spec.json") == spec


def test_services_are_started_again_on_a_full_disk_and_recorded_once_there_is_room(
    stub_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    spec = stub_spec()
    with mounted(Path(spec.home), "-t", "tmpfs", "-o", "size=1m", "tmpfs"), Running(spec) as running:
        wait_for(lambda: is_alive(running.home, "abc"))
        before = running.state().service("api").process
        assert before is not None
        disk = Tmpfs(running.home)
        disk.fill()
        os.kill(before.pid, signal.SIGKILL)
        wait_for(lambda: running.supervision.services[0].restarts == 1)
        wait_for(lambda: is_healthy(running.supervision.services[0].state()))
        assert running.state().service("api").process == before
        assert sum("is not up to date: the disk is full" in text for text in caplog.messages) == 1
        disk.mend()
        wait_for(lambda: running.state().service("api").restarts == 1)
        wait_for(lambda: is_alive(running.home, "abc"))
    assert running.error == ""


def test_a_service_whose_log_cannot_be_written_runs_without(
    stub_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    spec = stub_spec()
    Path(spec.log_dir).rmdir()
    with Running(spec) as running:
        wait_for(lambda: is_alive(running.home, "abc"))
    assert "api.log: the folder does not exist; api runs without a log" in caplog.text
