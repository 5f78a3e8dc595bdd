"""Real processes, on one machine and as if on several."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from slicewise.core.errors import WorkspaceError
from slicewise.engine import lock
from slicewise.engine.lock import STALE_SECONDS, Holder, claim, exclusive_lock, lock_holder

HOLD = """
import errno, fcntl, sys, time
from pathlib import Path
from slicewise.core.errors import WorkspaceError
from slicewise.engine.lock import exclusive_lock
path, kernel, seconds, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
def refuse(*_):
    raise OSError(errno.ENOLCK, "no locks available")
if kernel == "none":
    fcntl.flock = refuse
elif kernel == "local":  # every machine has its own table of locks and sees none but its own
    fcntl.flock = lambda *_: None
time.sleep(max(0.0, start - time.time()))
try:
    with exclusive_lock(path):
        print("held", flush=True)
        time.sleep(seconds)
except WorkspaceError as error:
    print(error, flush=True)
"""
KERNELS = ("real", "none")


@contextmanager
def controller(
    path: Path, kernel: str, seconds: float = 60.0, start: float = 0.0
) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", HOLD, str(path), kernel, str(seconds), str(start)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".slicewise" / "lock"


@pytest.fixture
def foreign(path: Path) -> Holder:
    """A lease that a process of another machine holds."""
    path.parent.mkdir()
    other = replace(
        Holder.current(), pid=7, host="elsewhere", machine="m", boot="b", since="2026-01-01T00:00:00+00:00"
    )
    path.write_text(json.dumps(asdict(other)))
    return other


def touched(path: Path, seconds_ago: float) -> None:
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_second_controller_is_refused_by_the_name_of_the_first_and_a_dead_one_is_forgotten(
    path: Path, kernel: str
) -> None:
    with controller(path, kernel) as first:
        assert said(first) == "held"
        with controller(path, kernel) as second:
            assert f"is in use by process {first.pid} on " in said(second)
        holder = lock_holder(path)
        assert holder is not None
        assert holder.pid == first.pid
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert path.exists()
        assert lock_holder(path) is None
        with controller(path, kernel) as third:
            assert said(third) == "held"


@pytest.mark.parametrize("kernel", KERNELS)
def test_of_controllers_started_at_the_same_moment_exactly_one_runs(path: Path, kernel: str) -> None:
    moment = time.time() + 1.0
    with (
        controller(path, kernel, 3.0, moment) as one,
        controller(path, kernel, 3.0, moment) as two,
        controller(path, kernel, 3.0, moment) as three,
    ):
        words = [said(process) for process in (one, two, three)]
    assert words.count("held") == 1, words
    assert sum("is in use by" in word for word in words) == 2


@pytest.mark.parametrize("kernel", KERNELS)
def test_of_controllers_that_find_a_dead_one_exactly_one_takes_over(path: Path, kernel: str) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(asdict(replace(Holder.current(), pid=2**22 + 1))))
    moment = time.time() + 1.0
    with controller(path, kernel, 3.0, moment) as one, controller(path, kernel, 3.0, moment) as two:
        words = [said(process) for process in (one, two)]
    assert words.count("held") == 1, words


def test_a_lease_that_another_controller_sets_aside_for_a_moment_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(asdict(replace(Holder.current(), pid=2**22 + 1))))
    mine, aside, create = Holder.current(), path.with_name("aside"), lock._create

    def create_then_lose_it_briefly(path: Path, mine: Holder) -> bool:
        if not create(path, mine):
            return False
        path.rename(aside)
        threading.Timer(0.05, aside.rename, [path]).start()
        return True

    monkeypatch.setattr(lock, "_create", create_then_lose_it_briefly)
    assert claim(path, mine, same_machine_is_void=False)


def test_a_lock_that_other_machines_do_not_see_is_backed_by_the_lease(path: Path, foreign: Holder) -> None:
    with controller(path, "local") as here:
        assert "is in use by process 7 on elsewhere since 2026-01-01" in said(here)


def test_another_machine_without_heartbeat_is_given_up_after_a_minute(path: Path, foreign: Holder) -> None:
    touched(path, STALE_SECONDS - 10)
    with pytest.raises(WorkspaceError, match="process 7 on elsewhere"), exclusive_lock(path):
        pass
    touched(path, STALE_SECONDS + 10)
    assert lock_holder(path) is None
    with exclusive_lock(path):
        assert Holder.read(path) != foreign


def test_after_a_restart_of_the_machine_its_lease_is_void_at_once(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(asdict(replace(Holder.current(), boot="an earlier one"))))
    with exclusive_lock(path):
        pass


def test_a_recycled_process_id_is_another_process(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(asdict(replace(Holder.current(), started=1.0))))
    assert claim(path, Holder.current(), same_machine_is_void=False)


def test_a_process_of_another_container_counts_by_its_heartbeat(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(asdict(replace(Holder.current(), pid=2**22 + 1, space="pid:[1]"))))
    with pytest.raises(WorkspaceError, match="is in use"), exclusive_lock(path):
        pass


def test_a_lease_that_cannot_be_read_is_honoured_for_a_minute(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"pid": 3')
    with pytest.raises(WorkspaceError, match="is in use by another process"), exclusive_lock(path):
        pass
    touched(path, STALE_SECONDS + 10)
    with exclusive_lock(path):
        assert str(os.getpid()) in path.read_text()


def test_waiting_says_for_whom_and_goes_on_when_it_is_free(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with controller(path, "real", seconds=1.5) as first:
        assert said(first) == "held"
        with exclusive_lock(path, wait_seconds=60):
            assert f"process {first.pid}" not in path.read_text()
    assert f"waiting: process {first.pid} on " in capsys.readouterr().out


def test_waiting_ends(path: Path, foreign: Holder) -> None:
    with (
        pytest.raises(WorkspaceError, match="process 7 on elsewhere"),
        exclusive_lock(path, wait_seconds=0.1),
    ):
        pass


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Ctrl-C raises, as at a terminal; in the background of a shell it would be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_the_heartbeat_keeps_the_lease_fresh_and_notices_that_it_was_lost(
    path: Path, foreign: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    stolen = path.read_text()
    touched(path, STALE_SECONDS + 10)
    with pytest.raises(WorkspaceError, match="process 7 on elsewhere"), exclusive_lock(path):
        touched(path, STALE_SECONDS + 10)
        deadline = time.monotonic() + 30
        while time.time() - path.stat().st_mtime > STALE_SECONDS:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        path.write_text(stolen)
        time.sleep(30)
    assert path.read_text() == stolen, "what another holds is not removed"


def becomes_unreadable(path: Path) -> None:
    """Let a link that leads to itself take the place of the lease, at one stroke."""
    aside = path.with_name("aside")
    aside.symlink_to(path)
    aside.replace(path)


def becomes(path: Path, text: str) -> None:
    aside = path.with_name("aside")
    aside.write_text(text)
    aside.replace(path)


def is_kept_fresh(path: Path) -> bool:
    """Whether the heartbeat touches the lease, now or soon."""
    touched(path, STALE_SECONDS + 10)
    deadline = time.monotonic() + 30
    while time.time() - path.stat().st_mtime > STALE_SECONDS and time.monotonic() < deadline:
        time.sleep(0.01)
    return time.time() - path.stat().st_mtime <= STALE_SECONDS


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("damage", [becomes_unreadable, lambda path: becomes(path, '{"pid": 3')])
def test_a_lease_that_cannot_be_read_for_a_moment_is_not_lost(
    path: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    with exclusive_lock(path):
        before = path.read_text()
        damage(path)
        time.sleep(0.5)
        becomes(path, before)
        assert is_kept_fresh(path)
    assert not path.exists()


@pytest.mark.usefixtures("_interruptible")
def test_a_lease_that_cannot_be_read_for_long_may_be_another_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.3)
    with (
        pytest.raises(WorkspaceError, match=r"lock could not be read for .*symbolic links"),
        exclusive_lock(path),
    ):
        becomes_unreadable(path)
        time.sleep(30)


@pytest.mark.usefixtures("_interruptible")
def test_a_lease_that_was_removed_is_made_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    with exclusive_lock(path):
        before = path.read_text()
        path.unlink()
        deadline = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert path.read_text() == before


def test_a_heartbeat_that_fails_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch, refused = os.utime, threading.Event()

    def refuse_once(path: Path, *times: tuple[float, float]) -> None:
        if threading.current_thread() is threading.main_thread() or refused.is_set():
            return touch(path, *times)
        refused.set()
        raise OSError(errno.ESTALE, "stale file handle")

    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(os, "utime", refuse_once)
    with exclusive_lock(path):
        assert refused.wait(30)
        assert is_kept_fresh(path)


def test_the_lock_is_free_after_the_block(path: Path) -> None:
    for _ in range(2):
        with exclusive_lock(path):
            assert path.exists()
        assert not path.exists()
    assert sorted(file.name for file in path.parent.iterdir()) == ["fence", "lock.kernel"]
