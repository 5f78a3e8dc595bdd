"""A recipe of another package, with stages of its own, runs from the data to the report and predicts."""

import csv
import shlex
import shutil
from pathlib import Path

import pytest
from tests.conftest import TINIEST, Pipeline
from tests.fixtures.packages import Install

from slicewise.config.compose import compose
from slicewise.config.folders import RECIPES
from slicewise.core.errors import ConfigError
from slicewise.core.files import read_json
from slicewise.workflow.settings import reproduce_command, results_config


@pytest.fixture
def site(install: Install, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(RECIPES, "_loaded", {})
    return install("recipes", "two_steps = recipe")


@pytest.mark.usefixtures("site")
def test_it_trains_its_own_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = Pipeline(tmp_path / "work", ("recipes=two_steps", *TINIEST))
    assert work.run("--until", "report") == 0
    assert [name for name in work.statuses() if name.startswith("train.")] == ["train.masks", "train.both"]
    for stage in ("masks", "both"):
        assert (work.workspace / f"checkpoints/two_steps_{stage}/best_model.pth").is_file()
    output = capsys.readouterr().out
    assert "checkpoints/two_steps_both/best_model.pth" in output
    with (work.workspace / "results/phase_comparison/phase_comparison.csv").open() as stream:
        compared = {(row["variant"], row["minus"]) for row in csv.DictReader(stream)}
    assert {("masks", ""), ("both", ""), ("both", "masks")} <= compared
    metrics = read_json(work.workspace / "results/multitask_evaluation/metrics.json")
    assert metrics["stage"] == "both"
    page = (work.workspace / "results/report/report.html").read_text()
    assert "both gained" in page

    case = next((work.workspace / "data/raw").glob("*/*/*_flair.nii.gz")).parent
    done = Pipeline(work.workspace, ())
    assert done.call("predict", str(case), "--out", str(tmp_path / "out"), "recipes=two_steps") == 0
    assert done.call("status") == 0
    assert "train.both" in capsys.readouterr().out


@pytest.mark.usefixtures("site")
def test_the_command_that_reproduces_it_and_the_origin_of_a_fault() -> None:
    config = compose(["recipes=two_steps"])
    words = shlex.split(reproduce_command(config))
    assert "stages.joint=null" in words
    again = compose([f"modes={words[3]}", *words[4:]])
    assert results_config(again) == results_config(config)
    with pytest.raises(ConfigError, match=r"stages\.both\.epochs: .* \[command line"):
        compose(["recipes=two_steps", "stages.both.epochs=0"])
    with pytest.raises(ConfigError, match="did you mean two_steps"):
        compose(["recipes=two_step"])


def test_a_damaged_package_names_its_file(site: Path) -> None:
    path = site / "recipe" / "recipes" / "two_steps.yaml"
    path.write_text(path.read_text().replace("epochs: 1", "epochs: 0", 1))
    with pytest.raises(ConfigError, match=r"stages\.masks\.epochs: .*recipe/recipes/two_steps\.yaml\]"):
        compose(["recipes=two_steps"])
    shutil.copy(path, path.with_name("tumour.yaml"))
    with pytest.raises(ConfigError, match=r"tumour\.yaml: .* has a file of this name"):
        compose()
