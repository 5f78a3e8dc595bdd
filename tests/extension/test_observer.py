"""An observer of another package is told of a run."""

import csv
from pathlib import Path

import pytest
from tests.conftest import TINIEST, Pipeline
from tests.fixtures.packages import Install


@pytest.fixture
def _installed(install: Install) -> None:
    install("observers", "diary = observer:make_diary")


@pytest.mark.usefixtures("_installed")
def test_it_is_told_of_steps_and_epochs(tmp_path: Path) -> None:
    work = Pipeline(tmp_path / "work", TINIEST)
    assert work.run("--until", "train.seg_warmup") == 0
    with (work.workspace / "diary.csv").open(newline="") as stream:
        rows = [tuple(row) for row in csv.reader(stream)]
    assert [row[:2] for row in rows if row[1] != "epoch"] == [
        *((step, "completed") for step in ("download", "preprocess", "split", "train.seg_warmup")),
        *((step, "skipped") for step in ("train.cls_head", "train.joint", "evaluate", "report", "demo")),
    ]
    assert ("train.seg_warmup", "epoch", "1") in rows
