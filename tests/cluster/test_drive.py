"""Jobs are started after those that they need, and what is done is decided by outputs alone."""

from collections.abc import Sequence

import pytest

from slicewise.cluster.drive import Place, drive
from slicewise.cluster.plan import Group, Job, Need


def group(name: str, number: int, *after: Need) -> Group:
    return Group(name, "data", tuple(Job(f"{name}.{i}", name) for i in range(number)), after)


GROUPS = (
    group("cases", 3),
    group("data", 1, Need("cases", each=False)),
    group("train", 2, Need("data", each=False)),
    group("evaluate", 2, Need("train", each=True)),
    group("pool", 1, Need("evaluate", each=False)),
)
"""Bundles, one job, and two folds that do not wait for each other"""


class Hands:
    """Does one job at a time, in order."""

    def __init__(self, broken: str = "", stops_at: str = "") -> None:
        self.broken, self.stops_at = broken, stops_at
        self.started, self.queue = list[str](), list[Place]()
        self.done = set[str]()
        self.is_stopped = False

    def start(self, place: Place) -> None:
        self.started.append(place.job.name)
        self.queue.append(place)

    def wait(self) -> Sequence[Place]:
        place = self.queue.pop(0)
        if place.job.name == self.stops_at:
            raise KeyboardInterrupt
        self.done |= {place.job.name} - {self.broken}
        return [place]

    def stop(self) -> None:
        self.is_stopped = True

    def run(self) -> list[str]:
        failed = drive(GROUPS, lambda job: job.name in self.done, self, lambda _place, _done: None)
        return [place.job.name for place in failed]


def test_every_job_runs_once_after_those_that_it_needs() -> None:
    hands = Hands()
    assert hands.run() == []
    assert sorted(hands.started) == sorted(job.name for group in GROUPS for job in group.jobs)
    order = hands.started.index
    assert order("cases.2") < order("data.0") < order("train.0")
    assert order("evaluate.0") < order("evaluate.1") < order("pool.0")
    again = Hands()
    again.done = {*hands.done} - {"evaluate.1", "pool.0"}
    assert again.run() == []
    assert again.started == ["evaluate.1", "pool.0"]


def test_a_failed_fold_costs_what_needs_it() -> None:
    hands = Hands(broken="train.1")
    assert hands.run() == ["train.1"]
    assert "evaluate.0" in hands.started
    assert not {"evaluate.1", "pool.0"} & {*hands.started}


def test_what_runs_is_stopped_with_the_command() -> None:
    hands = Hands(stops_at="data.0")
    with pytest.raises(KeyboardInterrupt):
        hands.run()
    assert hands.is_stopped
    assert hands.started[-1] == "data.0"
