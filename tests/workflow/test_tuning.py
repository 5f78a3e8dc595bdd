"""The study behind `slicewise tune`: seed and results alone decide what is tried; bad trials end early."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slicewise.config.search_space import Choice, Parameter, Range
from slicewise.engine.observers import StopRun
from slicewise.workflow.tuning import Pruner, PrunerName, StudySettings, TrialResult, TuningStudy

PARAMETERS = (
    Parameter("lr", ("lr",), Range(1e-4, 1.0, is_log=True), "log(1e-4,1)"),
    Parameter("depth", ("depth",), Range(2, 6, is_int=True), "int(2,6)"),
    Parameter("name", ("name",), Choice(("adam", "sgd")), "choice(adam,sgd)"),
)


def study(folder: Path, seed: int = 0, pruner: PrunerName = "median", name: str = "study") -> TuningStudy:
    return TuningStudy(StudySettings(folder, name, PARAMETERS, seed, pruner, 4))


def score(values: dict[str, str]) -> float:
    """A function with its top at lr 0.1, depth 4 and adam."""
    import math

    lr, depth = float(values["lr"]), int(values["depth"])
    return 1 - (math.log10(lr) + 1) ** 2 / 9 - (depth - 4) ** 2 / 20 - 0.1 * (values["name"] == "sgd")


def search(folder: Path, total: int, **more: Any) -> list[dict[str, str]]:
    opened, tried = study(folder, **more), []
    for _, trial in opened.pending(total):
        values = opened.values(trial)
        opened.tell(trial, TrialResult("complete", score(values), 4))
        tried.append(values)
    return tried


def test_the_same_seed_tries_the_same_and_another_one_does_not(tmp_path: Path) -> None:
    first = search(tmp_path / "a", 8)
    assert search(tmp_path / "b", 8) == first
    assert search(tmp_path / "c", 2, seed=1) != first[:2]


def test_a_search_in_parts_tries_what_a_whole_one_does(tmp_path: Path) -> None:
    parts = search(tmp_path / "a", 3) + search(tmp_path / "a", 8)
    assert parts == search(tmp_path / "b", 8)


def test_it_learns_from_what_it_tried(tmp_path: Path) -> None:
    tried = search(tmp_path, 24)
    early, late = (sum(map(score, part)) / len(part) for part in (tried[:6], tried[-8:]))
    assert late > early
    importance = study(tmp_path).importance()
    assert importance["lr"] == max(importance.values())
    assert sum(importance.values()) == pytest.approx(1)


def test_a_trial_that_was_interrupted_comes_back_first_with_its_values(tmp_path: Path) -> None:
    opened = study(tmp_path)
    _, trial = next(opened.pending(3))
    values = opened.values(trial)
    again = study(tmp_path)
    numbers = []
    for number, trial in again.pending(3):
        numbers.append(number)
        if number == 1:
            assert again.values(trial) == values
        again.tell(trial, TrialResult("complete", 0.5, 4))
    assert numbers == [1, 2, 3]
    assert [row.number for row in again.rows()] == [1, 2, 3]


def test_a_search_of_another_space_begins_anew(tmp_path: Path) -> None:
    search(tmp_path, 2)
    assert study(tmp_path, name="other").rows() == []


@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_a_bad_trial_ends_early_unless_nothing_is_pruned(tmp_path: Path, pruner: PrunerName) -> None:
    opened = study(tmp_path, pruner=pruner)
    stopped = []
    for number, trial in opened.pending(9):
        observer = Pruner("joint", 4, partial(opened.judge, trial.number))
        good = number % 3
        try:
            for epoch in range(1, 5):
                observer.epoch("train.warmup", {"epoch": epoch, "score": 0.0})  # another stage does not count
                observer.epoch(
                    "train.joint", {"epoch": epoch, "score": 0.2 * good + 0.1 * epoch, "seconds": 1}
                )
            opened.tell(trial, TrialResult("complete", 0.2 * good, 4))
        except StopRun as stop:
            epochs, value = observer.history[-1]
            opened.tell(trial, TrialResult("pruned", value, epochs, reason=str(stop)))
            stopped.append(number)
    assert all(number > 4 or pruner == "hyperband" for number in stopped)
    assert bool(stopped) is (pruner != "none")
    states = {row.number: row.result.state for row in opened.rows()}
    assert {number for number, state in states.items() if state == "pruned"} == {*stopped}


def test_the_default_recipe_is_known_to_the_sampler_and_no_trial(tmp_path: Path) -> None:
    opened = study(tmp_path)
    default = TrialResult("complete", 0.9, 4, history=((1, 0.5), (2, 0.9)))
    for _ in range(2):
        opened.add_default(default, {"lr": 0.1, "depth": 4, "name": "adam"})
    assert opened.rows() == []
    for _, trial in opened.pending(1):
        opened.tell(trial, TrialResult("failed", reason="the loss is NaN"))
    (row,) = opened.rows()
    assert (row.number, row.result.state, row.result.reason) == (1, "failed", "the loss is NaN")
