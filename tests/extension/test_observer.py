"""An observer of another package is told of a run."""

import csv
import shutil
from pathlib import Path

import pytest
from tests.conftest import TINY, Pipeline


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install tests/extension/observer.py as a package would be."""
    site = tmp_path / "site-packages"
    info = site / "diary-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("observer.py"), site)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: diary\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[slicewise.observers]\ndiary = observer:make_diary\n")
    monkeypatch.syspath_prepend(site)


@pytest.mark.usefixtures("_installed")
def test_it_is_told_of_steps_and_epochs(tmp_path: Path) -> None:
    work = Pipeline(tmp_path / "work", TINY)
    assert work.run("--until", "train.seg_warmup") == 0
    with (work.workspace / "diary.csv").open(newline="") as stream:
        rows = [tuple(row) for row in csv.reader(stream)]
    assert [row[:2] for row in rows if row[1] != "epoch"] == [
        *((step, "completed") for step in ("download", "preprocess", "split", "train.seg_warmup")),
        *((step, "skipped") for step in ("train.cls_head", "train.joint", "evaluate", "report", "demo")),
    ]
    assert ("train.seg_warmup", "epoch", "1") in rows
