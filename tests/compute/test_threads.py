import os
import subprocess
import sys
from collections.abc import Callable

import cv2
import pytest
import torch

from slicewise.compute import threads
from slicewise.compute.threads import (
    Rate,
    Threads,
    ThreadSetting,
    can_set_wait_policy,
    candidate_settings,
    measure_rates,
    requested_threads,
    select_setting,
    tuned_threads,
)

ONE, SPINNING, SLEEPING = ThreadSetting(1), ThreadSetting(2), ThreadSetting(2, True)


@pytest.mark.parametrize(
    ("fixed", "cores", "waiting", "expected"),
    [
        (0, 1, True, (ONE,)),
        (0, 2, True, (ONE, SLEEPING, SPINNING)),
        (0, 2, False, (ONE, ThreadSetting(2, None))),
        (1, 8, True, (ONE,)),
        (3, 2, True, (ThreadSetting(3, True), ThreadSetting(3))),
        (0, 6, False, (ONE, ThreadSetting(3, None), ThreadSetting(6, None))),
    ],
)
def test_candidates(fixed: int, cores: int, waiting: bool, expected: tuple[ThreadSetting, ...]) -> None:
    assert candidate_settings(fixed, cores, waiting=waiting) == expected


def test_what_the_user_has_set_wins() -> None:
    assert requested_threads(3, {"OMP_NUM_THREADS": "5"}) == 3
    assert requested_threads(0, {"OMP_NUM_THREADS": "5"}) == 5
    assert requested_threads(0, {"OMP_NUM_THREADS": "4,2"}) == 4
    assert requested_threads(0, {"OMP_NUM_THREADS": "many"}) == requested_threads(0, {}) == 0
    assert not can_set_wait_policy({"OMP_WAIT_POLICY": "ACTIVE"})
    assert not can_set_wait_policy({"GOMP_SPINCOUNT": "1000"})


def test_threads_hold_in_the_block_alone() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    with Threads(3, "test") as used:
        assert torch.get_num_threads() == cv2.getNumThreads() == 3
        assert used.setting.number == 3
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


class Clock:
    """Time that passes only when work is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.cpu = 0.0, 0.0
        self.setting = ONE
        monkeypatch.setattr("slicewise.compute.threads.time.perf_counter", lambda: self.now)
        monkeypatch.setattr("slicewise.compute.threads.time.process_time", lambda: self.cpu)

    def use(self, setting: ThreadSetting) -> None:
        self.setting = setting

    def work(self, seconds: dict[ThreadSetting, float], share: float) -> Callable[[], None]:
        def step() -> None:
            self.now += seconds[self.setting]
            self.cpu += seconds[self.setting] * share * self.setting.number

        return step


@pytest.mark.parametrize(
    ("one", "sleeping", "spinning", "share", "expected"),
    [
        (0.010, 0.012, 0.006, 1.0, SPINNING),  # a quiet machine
        (0.020, 0.015, 0.012, 0.5, SLEEPING),  # those that spin lose their cores now and then
        (0.020, 0.040, 0.500, 0.3, ONE),  # a busy one
    ],
)
def test_the_fastest_setting_is_found(
    one: float,
    sleeping: float,
    spinning: float,
    share: float,
    expected: ThreadSetting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    work = clock.work({ONE: one, SLEEPING: sleeping, SPINNING: spinning}, share)
    found = measure_rates((ONE, SLEEPING, SPINNING), clock.use, work, idle=lambda: clock.now)
    assert select_setting(SPINNING, found) == expected
    assert clock.now < 1.5


def test_threads_do_not_spin_where_no_core_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    work = clock.work({ONE: 0.02, SLEEPING: 0.04, SPINNING: 5.0}, 1.0)
    found = measure_rates((ONE, SLEEPING, SPINNING), clock.use, work, idle=lambda: 7.0)
    assert (select_setting(SPINNING, found), found[SPINNING]) == (ONE, 0)
    assert clock.now < 0.5


def test_a_gain_within_the_error_changes_nothing() -> None:
    assert select_setting(SPINNING, {ONE: 103.0, SPINNING: 100.0}) == SPINNING
    assert select_setting(SPINNING, {ONE: 120.0, SPINNING: 100.0}) == ONE
    assert select_setting(ThreadSetting(8), {ONE: 1.0}) == ONE


def test_threads_that_spin_count_only_on_cores_of_their_own() -> None:
    disturbed = Rate(steps=10, seconds=1.0, cpu_seconds=1.0)
    assert disturbed.per_second(SPINNING) == 0
    assert disturbed.per_second(SLEEPING) == disturbed.per_second(ThreadSetting(2, None)) == 10


@pytest.fixture
def open_choice(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ThreadSetting, ...]]:
    """Nothing is set, there are two cores, and a measurement finds one thread the fastest."""
    asked: list[tuple[ThreadSetting, ...]] = []

    def found(options: tuple[ThreadSetting, ...], *rest: object) -> dict[ThreadSetting, float]:
        asked.append(options)
        return {option: 1.0 / option.number for option in options}

    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    monkeypatch.setattr(threads, "measure_rates", found)
    return asked


def test_the_choice_is_told_once_and_not_measured_again_at_once(
    open_choice: list[tuple[ThreadSetting, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    with tuned_threads(0, "training", "cpu") as used:
        assert used.setting == ONE
        assert used.choose() is None
        assert used.choose(number=1) is None
    assert len(open_choice) == 1
    assert capsys.readouterr().out.count("training: 1 thread (measured speed: ") == 1


def test_a_setting_that_cannot_be_measured_on_busy_cores_has_no_speed(
    open_choice: list[tuple[ThreadSetting, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rates = {ONE: 2.0, ThreadSetting(2, True): 1.0, ThreadSetting(2): 0.0}
    monkeypatch.setattr(threads, "measure_rates", lambda *_: rates)
    with tuned_threads(0, "training", "cpu"):
        pass
    assert (
        "training: 1 thread (measured speed: 1 thread 1.00, 2 threads sleeping 0.50; "
        "not on busy cores: 2 threads spinning)"
    ) in capsys.readouterr().out


def test_an_epoch_that_is_taken_up_keeps_its_number(open_choice: list[tuple[ThreadSetting, ...]]) -> None:
    with Threads(0, "training") as used:
        used.choose(number=2)
        assert used.setting.number == torch.get_num_threads() == 2


def test_nothing_is_measured_where_the_number_is_set(open_choice: list[tuple[ThreadSetting, ...]]) -> None:
    with tuned_threads(1, "training", "cpu") as used:
        assert used.setting == ONE
    with tuned_threads(0, "training", "cuda"):
        pass
    assert not open_choice


SWITCHES = """
import os
import time
from contextlib import suppress
from pathlib import Path

os.sched_setaffinity(0, range(os.cpu_count()))  # a test may have one core to itself

import torch

from slicewise.compute.threads import Threads
from slicewise.compute.threads import SleepingTeam


def switches():
    total = 0
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # it has just ended
            lines = (thread / "status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))
    return total


def count():
    image.relu_()
    before = switches()
    for _ in range(200):
        image.relu_()
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
    return switches() - before


image = torch.randn(400, 1000)
with Threads(2, "test"):
    image.relu_()
    team = SleepingTeam(2)
    asleep = count()
    team.close()
    print(asleep, count())
"""


@pytest.mark.skipif(not can_set_wait_policy({}), reason="PyTorch does not run on libgomp here")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: threads never spin")
def test_threads_sleep_while_there_is_a_sleeping_team() -> None:
    """Between two regions a thread that sleeps gives its core away, and one that spins does not.

    It spins without end here: on a busy machine it would sleep at the end of a bounded time.
    """
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"GOMP_SPINCOUNT": "infinite", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", SWITCHES], env=environment, capture_output=True, text=True, check=True
    )
    asleep, spinning = map(int, done.stdout.split())
    assert asleep > 100
    assert spinning < 20
