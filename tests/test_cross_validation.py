"""Cross-validation as a user runs it: each patient tested once, folds reused, one fold repaired."""

import shutil
from pathlib import Path

import pytest
from benchmarks import accuracy
from benchmarks.bench import temporary_bench
from benchmarks.size import TINY
from tests.conftest import Pipeline

from slicewise.config.compose import compose
from slicewise.core.files import read_json
from slicewise.steps import pipeline as pipeline_of

SMALL = (
    "data.sources.volumes.phantom_patients=6",
    "data.sources.pictures.phantom_pictures=16",
    "scale={fraction:1.0,min_patients:6,min_pictures:16}",
    "preprocessing.image_size=32",
    "model.encoder=tu-test_resnet",  # timm's model for tests: 0.2 M parameters
    "model.encoder_weights=null",
    "model.encoder_depth=3",
    "training.batch_size=8",
    "training.iterations_per_epoch=2",
    "training.sample_predictions=1",
    *(f"stages.{stage}.epochs=1" for stage in ("seg_warmup", "cls_head", "joint")),
    "evaluation.gradcam_pictures=2",
    "evaluation.sample_predictions=2",
    "evaluation.failure_pictures=1",
    "evaluation.bootstrap_samples=100",
    "runtime.num_threads=1",
)
FOLDS = ("--folds", "2")
STEPS = tuple(step.name for step in pipeline_of(compose(["split.folds=2"])))


@pytest.fixture(scope="module")
def validated(trained: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = Pipeline(tmp_path_factory.mktemp("folds"), SMALL)
    shutil.copytree(trained.workspace / "data" / "raw", pipeline.workspace / "data" / "raw")
    assert pipeline.run(*FOLDS) == 0
    return pipeline


def groups(pipeline: Pipeline, fold: int, subset: str) -> set[tuple[str, str]]:
    sources = read_json(pipeline.workspace / f"folds/{fold}/data/split/split.json")["sources"]
    return {(source, group) for source, table in sources.items() for group in table[subset]}


def test_everyone_is_tested_once_by_a_network_that_never_saw_them(validated: Pipeline) -> None:
    first, second = groups(validated, 1, "test"), groups(validated, 2, "test")
    manifest = read_json(validated.workspace / "data/processed/manifest.json")["entries"]
    assert first.isdisjoint(second)
    assert first | second == {(entry["source"], entry["group"]) for entry in manifest}

    pooled = read_json(validated.workspace / "results/cross_validation/metrics.json")
    assert pooled["sources"]["phantom"]["num_patients"] == 6
    folds = read_json(validated.workspace / "results/cross_validation/folds.json")["rows"]
    assert {row["variant"] for row in folds} == {"fold 1", "fold 2"}


def test_the_record_has_every_fold_and_the_pooled_metrics(validated: Pipeline) -> None:
    assert tuple(validated.statuses()) == STEPS
    assert "sources" in validated.record["steps"]["cross_validation"]["metrics"]


def test_again_everything_is_reused_and_a_lost_fold_is_made_again_alone(
    validated: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    home = validated.workspace / "folds/2/results/multitask_evaluation"
    shutil.rmtree(home)
    capsys.readouterr()
    assert validated.call("plan", *FOLDS) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    actions = {line[0]: line[1] for line in words if line and line[0] in STEPS}
    assert {name for name, action in actions.items() if action == "run"} == {"fold2.evaluate"}
    assert actions["cross_validation"] == "check"

    assert validated.run(*FOLDS) == 0
    assert validated.ran() == ["fold2.evaluate"]


def test_a_plain_script_is_set_beside_it_patient_by_patient(
    validated: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "_training_seconds", lambda *_: 0.5)
    with temporary_bench(TINY, validated.workspace, SMALL) as bench:
        (row,) = accuracy.run(bench)
    pooled = read_json(validated.workspace / "results/cross_validation/metrics.json")
    assert row.ours == pytest.approx(
        pooled["sources"]["phantom"]["segmentation"]["dice_per_patient"]["value"]
    )
    assert len(row.ratios) == 6
    assert row.ratio == pytest.approx(row.ours - row.reference)


def test_a_single_split_beside_it_shares_the_slices(validated: Pipeline) -> None:
    assert validated.run("--mode", "data-only") == 0
    assert validated.ran() == ["split"]


def test_the_demo_alone_has_no_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Pipeline(tmp_path, SMALL).run(*FOLDS, "--mode", "demo") == 2
    assert "leave --folds out" in capsys.readouterr().err
