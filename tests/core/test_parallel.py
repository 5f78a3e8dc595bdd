import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.terminal import Terminal, in_terminal

from slicewise.core.errors import DataError
from slicewise.core.parallel import map_cases, map_in_processes, num_processes


def square(number: int) -> int:
    return number * number


def die_on_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    raise DataError(f"case {number} is bad")


def test_one_worker_stays_in_this_process() -> None:
    assert list(map_in_processes(lambda number: number + 1, [1, 2], 1, str)) == [(0, 2), (1, 3)]


def test_every_job_is_answered_with_its_position() -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    assert dict(map_in_processes(square, list(range(9)), 2, str)) == {
        number: number**2 for number in range(9)
    }
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_another_mapper_takes_its_place() -> None:
    asked: list[int] = []

    def backwards(
        function: Callable[[Any], Any], jobs: Sequence[Any], num_workers: int, name: Callable[[Any], str]
    ) -> Iterator[tuple[int, Any]]:
        asked.append(num_workers)
        return ((place, function(jobs[place])) for place in reversed(range(len(jobs))))

    done = map_cases(
        square, [1, 2, 3], name=str, num_workers=8, memory_mib=1, jobs_per_worker=2, mapper=backwards
    )
    assert list(done) == [(2, 9), (1, 4), (0, 1)]
    assert asked == [1]


def test_a_killed_worker_is_explained() -> None:
    with pytest.raises(
        DataError,
        match=r"memory, during or shortly before: .*case 3.*MiB.*runtime\.num_workers=1 \(it was 2\)",
    ):
        list(map_in_processes(die_on_three, [0, 1, 2, 3, 4], 2, lambda number: f"case {number}"))


def test_an_error_in_a_worker_arrives_as_it_is() -> None:
    with pytest.raises(DataError, match="is bad"):
        list(map_in_processes(refuse, [1, 2, 3], 2, str))


def test_processes_are_bounded_by_request_memory_and_jobs() -> None:
    assert num_processes(4, 1, 100) == 4
    assert num_processes(4, 1, 2) == 2
    assert num_processes(4, 10**9, 100) == 1
    assert 1 <= num_processes(0, 1, 10**6) <= (os.cpu_count() or 1)
    assert num_processes(3, 1, 0) == 1


NOISY = """
import logging, sys, time, warnings
from slicewise.core.console import progress, standard_streams
from slicewise.core.parallel import map_in_processes
def noisy(number):
    time.sleep(0.3)  # until the bar is drawn
    warnings.warn_explicit(f"warning {number}", UserWarning, "file", 1)
    logging.getLogger("library").warning("log %d", number)
    print(f"print {number}")
    return number
if __name__ == "__main__":
    with standard_streams():
        found = list(progress(map_in_processes(noisy, range(4), 2, str), desc="Working", total=4))
    print(sorted(found))
"""


def test_what_a_worker_prints_stands_in_whole_lines_above_the_bar(tmp_path: Path) -> None:
    program = tmp_path / "noisy.py"
    program.write_text(NOISY)
    code, sent = in_terminal([sys.executable, str(program)])
    assert code == 0, sent
    assert "Working: " in sent
    terminal = Terminal()
    terminal.feed(sent)
    assert terminal.shown[-1] == "[(0, 0), (1, 1), (2, 2), (3, 3)]"
    assert sorted(terminal.shown[:-1]) == sorted(
        text.format(number)
        for number in range(4)
        for text in ("file:1: UserWarning: warning {}", "log {}", "print {}")
    )


SLOW = """
import sys, time
from slicewise.core.signals import handle_signals
from slicewise.core.parallel import map_in_processes
try:
    with handle_signals():
        list(map_in_processes(time.sleep, [600.0] * 6, 2, str))
except KeyboardInterrupt:
    sys.exit(130)
"""


def start_slow_work() -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """Start a program with two workers in a group of its own; return it as soon as it has children."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(children := psutil.Process(process.pid).children()) < 3:  # the workers and their tracker
        assert process.poll() is None
        time.sleep(0.01)
    return process, children


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=60)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


@pytest.mark.parametrize("pause", [0.0, 3.0], ids=["while they import", "at work"])
def test_ctrl_c_for_the_whole_group_ends_the_workers_without_a_word(pause: float) -> None:
    process, children = start_slow_work()
    time.sleep(pause)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")
    assert all_gone(children)


def test_workers_do_not_outlive_a_killed_parent() -> None:
    process, children = start_slow_work()
    process.kill()
    process.communicate(timeout=60)
    assert all_gone(children)
