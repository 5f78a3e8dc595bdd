"""A step of another package is planned, run, reused, skipped, verified and recorded as any other."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import TINIEST, Pipeline
from tests.extension.step import inventory
from tests.fixtures.packages import Install

from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.core.errors import ConfigError
from slicewise.engine.step import Step
from slicewise.steps import STEPS, pipeline


@pytest.fixture
def _installed(install: Install) -> None:
    install("steps", "inventory = step:inventory")


@pytest.mark.usefixtures("_installed")
def test_it_belongs_to_the_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = Pipeline(tmp_path / "work", TINIEST)
    assert [step.name for step in pipeline(compose())][:5] == [
        *("download", "preprocess", "split", "inventory"),
        "train.seg_warmup",
    ]
    assert work.run("--mode", "data-only") == 0
    assert work.statuses()["inventory"] == "completed"
    table = work.workspace / "results" / "inventory" / "inventory.csv"
    assert table.read_text().splitlines()[0] == "source,cases,slices"
    assert set(work.record["steps"]["inventory"]["metrics"]["num_slices"]) == {"phantom", "phantom_pictures"}
    assert "cases and slices of phantom" in capsys.readouterr().out

    assert work.call("plan", "--only", "count", "--skip-split") == 0
    assert work.run("--mode", "data-only", "--skip-inventory") == 0
    assert work.statuses()["inventory"] == "skipped"
    table.write_text("damaged")
    assert Pipeline(work.workspace, ()).call("verify") == 1
    assert "inventory is made again by the next run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"needs": ("preproces",), "after": ""}, "inventory stands after preproces, which does not exist"),
        ({"after": "inventory"}, "inventory stands after inventory, which does not exist or stands after it"),
        ({"homes": {"out": "data/split"}}, "split and inventory have the same home data/split"),
        ({"name": "split"}, "two steps are called split"),
        ({"after": "download"}, None),
    ],
)
def test_a_step_that_does_not_fit_is_an_error(
    change: dict[str, object], message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(config: Config) -> Step[Config]:
        return replace(inventory(config), **change)  # type: ignore[arg-type]  # fields of several types

    monkeypatch.setitem(STEPS._registered, "changed", build)
    if message is None:  # behind what it needs
        assert [step.name for step in pipeline(compose())][2] == "inventory"
        return
    with pytest.raises(ConfigError, match=message):
        pipeline(compose())
