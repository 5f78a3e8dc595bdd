"""Epochs and batches for a given time, and a run that is planned for it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.conftest import Pipeline

from slicewise.config.compose import compose
from slicewise.core.errors import ConfigError, UsageError
from slicewise.steps import pipeline
from slicewise.training.trainer import Pace
from slicewise.workflow import time_plan
from slicewise.workflow.time_plan import StagePlan, plan_stages, stage_seconds

PACES = {
    "seg_warmup": Pace(0.10, 3.0, 0.0),
    "cls_head": Pace(0.03, 2.0, 0.0),
    "joint": Pace(0.12, 4.0, 4.0),
}
USUAL = {"seg_warmup": StagePlan(1, 140), "cls_head": StagePlan(1, 140), "joint": StagePlan(4, 140)}


def total(planned: dict[str, StagePlan]) -> float:
    return sum(stage_seconds(PACES[name], plan) for name, plan in planned.items())


@pytest.mark.parametrize("seconds", [40, 60, 100, 150, 300, 900, 3_000])
def test_the_stages_take_the_time_that_there_is(seconds: float) -> None:
    planned = plan_stages(PACES, USUAL, seconds)
    assert 0.95 * seconds <= total(planned) <= seconds


def test_the_stages_keep_their_proportions_and_epochs_their_size() -> None:
    planned = plan_stages(PACES, USUAL, 2_000)
    sizes = {name: plan.epochs * plan.batches for name, plan in planned.items()}
    assert sizes["joint"] == pytest.approx(4 * sizes["cls_head"], rel=0.02)
    assert sizes["cls_head"] == pytest.approx(sizes["seg_warmup"], rel=0.02)
    assert all(plan.batches == pytest.approx(140, rel=0.1) for plan in planned.values())


def test_too_little_time_is_an_error_that_says_how_much_is_missing() -> None:
    with pytest.raises(UsageError, match=r"the shortest training takes 0\.3 minutes .* raise --minutes"):
        plan_stages(PACES, USUAL, 10)


def test_folds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.minutes plans one run"):
        pipeline(compose(["training.minutes=5", "split.folds=3"]))


def test_a_run_is_planned_once_and_keeps_its_plan(
    trained: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The durations are measured; the sizes are given, so that the test takes as long everywhere."""
    asked: list[float] = []

    def plan_few(
        paces: Mapping[str, Pace], usual: Mapping[str, StagePlan], seconds: float
    ) -> dict[str, StagePlan]:
        assert all(pace.batch > 0 and pace.closing > 0 for pace in paces.values())
        assert {plan.batches for plan in usual.values()} == {12}
        asked.append(seconds)
        return dict.fromkeys(paces, StagePlan(2, 3))

    monkeypatch.setattr(time_plan, "plan_stages", plan_few)
    for name in ("data", ".slicewise"):
        ignored = shutil.ignore_patterns("lock", "shelf", "partial")
        shutil.copytree(trained.workspace / name, tmp_path / name, ignore=ignored)
    planned = Pipeline(tmp_path, trained.overrides)
    for ran in (["time_plan", "train.seg_warmup"], []):
        assert planned.run("--until", "train.seg_warmup", "--minutes", "60") == 0
        assert planned.ran() == ran
    (seconds,) = asked
    assert 1_800 < seconds < 3_600
    history = (tmp_path / "checkpoints" / "multitask_seg_warmup" / "history.csv").read_text().splitlines()
    assert len(history) == 1 + 2
    told = capsys.readouterr().out
    assert "seg_warmup 2 x 3 batches" in told
    assert "of 60 minutes" in told
