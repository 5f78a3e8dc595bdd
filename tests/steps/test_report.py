import shlex
from pathlib import Path

import pytest
from tests.conftest import TINY, Pipeline

from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.core.files import read_json
from slicewise.engine.step import Step
from slicewise.steps import pipeline
from slicewise.workflow.settings import reproduce_command, results_config

SOURCE = "data.sources.volumes.path='/my data/a=b'"


def _report() -> Step[Config]:
    return next(step for step in pipeline(compose()) if step.name == "report")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        list(TINY),
        ["modes=production", "data=lgg", "recipes=lgg_cpu", "augmentation=none"],
        ["modes=baseline", "data=brats", "preprocessing.clip_percentiles=[1,98.5]", "seed=7"],
        ["data.name='my \"own\" set, 2'", "model.encoder_weights=imagenet", "training.batch_size=3"],
    ],
)
def test_the_command_gives_the_same_settings(overrides: list[str]) -> None:
    config = compose(overrides)
    words = shlex.split(reproduce_command(config))
    assert words[:3] == ["slicewise", "run", "--training-mode"]
    again = compose([f"modes={words[3]}", *words[4:]])
    assert results_config(again) == results_config(config)


def test_the_command_names_only_what_differs() -> None:
    assert reproduce_command(compose()) == "slicewise run --training-mode quick data=phantom"
    words = shlex.split(
        reproduce_command(compose(["seed=3", "runtime.num_workers=1", "serving.page_port=9999"]))
    )
    assert words[4:] == ["data=phantom", "seed=3"]


def test_a_folder_of_the_person_is_not_told() -> None:
    config = compose(["data=lgg", SOURCE])
    assert "my data" not in str(results_config(config)) + reproduce_command(config)
    assert 'data.sources.volumes.path="FOLDER"' in shlex.split(reproduce_command(config))
    started = compose(["training.start_from='/my data/best_model.pth'"])
    assert "my data" not in str(results_config(started)) + reproduce_command(started)


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("runtime.num_workers=1", True),
        ("serving.page_port=9999", True),
        ("data.sources.volumes.path='/elsewhere'", True),
        ("evaluation.bootstrap_samples=300", False),
        ("stages.joint.epochs=9", False),
        ("split.seed=4", False),
    ],
)
def test_what_is_shown_decides_the_report_and_nothing_else(override: str, same: bool) -> None:
    before, after = (_report().settings(compose(["data=lgg", SOURCE, *more])) for more in ([], [override]))
    assert (before == after) is same


def test_it_belongs_to_the_whole_run_and_to_no_fold() -> None:
    names = [step.name for step in pipeline(compose())]
    assert names[-3:] == ["evaluate", "report", "demo"]
    assert _report().group == "evaluate"  # which --mode train-eval selects
    assert not any("report" in step.name for step in pipeline(compose(["split.folds=3"])))


def test_to_ask_for_it_alone_among_folds_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Pipeline(tmp_path).call("plan", "--only", "report", "--folds", "3") == 2
    assert "--only report does not exist with folds" in capsys.readouterr().err


def test_receipts_tell_who_made_what_and_the_report_repeats_it(trained: Pipeline) -> None:
    told = read_json(trained.workspace / "results" / "report" / "report.json")
    assert [step["name"] for step in told["steps"]] == list(_report().needs)
    for step, folder in (("evaluate", "results/failures"), ("train.joint", "checkpoints/multitask_joint")):
        receipt = read_json(trained.workspace / folder / ".receipt.json")
        found = next(entry for entry in told["steps"] if entry["name"] == step)
        assert found["fingerprint"] == receipt["fingerprint"]
        for mine, theirs in (
            ("seconds", "duration_seconds"),
            ("commit", "git_commit"),
            ("command", "command"),
        ):
            assert found[mine] == receipt["report"][theirs]
        assert found["command"].startswith("slicewise")
    assert told["split"] == trained.record["steps"]["split"]["metrics"]["counts"]


def test_made_again_it_has_the_same_bytes(trained: Pipeline) -> None:
    folder = trained.workspace / "results" / "report"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
    assert set(before) == {"report.html", "report.txt", "report.json", "model_card.md"}
    assert trained.run("--only", "report", "--force", "report") == 0
    assert trained.ran() == ["report"]
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_it_can_be_skipped(trained: Pipeline) -> None:
    assert trained.run("--mode", "train-eval", "--skip-report") == 0
    assert trained.statuses()["report"] == "skipped"


def test_the_page_that_leads_to_it_comes_back(trained: Pipeline) -> None:
    page = trained.workspace / "results" / "report.html"
    way = page.read_text().partition("url=")[2].partition('"')[0]
    assert (page.parent / way).samefile(trained.workspace / "results" / "report" / "report.html")
    before = page.read_bytes()
    page.unlink()
    assert trained.run("--until", "report") == 0
    assert trained.ran() == []
    assert page.read_bytes() == before
