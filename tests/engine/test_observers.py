"""Observers are told of every step and epoch; one that fails breaks nothing."""

from collections.abc import Mapping

import pytest
from tests.engine.conftest import Toy

from slicewise.core import activity
from slicewise.core.files import read_json
from slicewise.engine.observers import Observer
from slicewise.engine.record import StepStatus
from slicewise.engine.workspace import StoredOutput


class Diary(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def started(self, step: str, reason: str) -> None:
        self.events.append(f"{step} started")

    def epoch(self, step: str, metrics: Mapping[str, float]) -> None:
        self.events.append(f"{step} epoch {metrics['epoch']}")

    def finished(self, step: str, status: StepStatus, reason: str, output: StoredOutput | None) -> None:
        self.events.append(f"{step} {status}{'' if output else ' without output'}")

    def failed(self, step: str, error: BaseException) -> None:
        self.events.append(f"{step} failed: {error}")


class Broken(Observer):
    """Fails when a step starts."""

    def started(self, step: str, reason: str) -> None:
        raise OSError("no such server")


def test_every_step_is_told_of(toy: Toy) -> None:
    diary = Diary()
    toy.observers["diary"] = diary
    toy.break_in, toy.break_step = RuntimeError("broken"), "join"
    with pytest.raises(RuntimeError):
        toy.run()
    toy.break_in = None
    toy.run(skip=["count"])
    assert diary.events == [
        *("gather started", "gather completed", "join started", "join failed: broken"),
        *("gather reused", "join started", "join completed", "count skipped without output"),
    ]


def test_an_observer_that_fails_warns_once_and_breaks_nothing(
    toy: Toy, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.observers["broken"] = Broken()
    assert toy.run() == ["gather", "join", "count"]
    warning = "broken failed at gather and is off until the next command: OSError: no such server"
    assert capsys.readouterr().out.count(warning) == 1
    record = read_json(toy.root / "pipeline_results.json")
    assert record["success"]
    assert warning in record["steps"]["gather"]["notes"]


def test_epochs_are_told_while_a_step_runs() -> None:
    told: list[Mapping[str, float]] = []
    with activity.epochs(told.append):
        activity.finish_epoch({"epoch": 1})
    activity.finish_epoch({"epoch": 2})
    assert told == [{"epoch": 1}]
