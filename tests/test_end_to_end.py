"""The whole pipeline on a handful of virtual patients, as a person would use it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, Pipeline
from tests.test_architecture import COMPOSING, HEAVY

from slicewise.core.files import read_json
from slicewise.models.checkpoint import load_checkpoint

STAGES = ("seg_warmup", "cls_head", "joint")
STAGE_STEPS = tuple(f"train.{stage}" for stage in STAGES)
STEP_NAMES = ("download", "preprocess", "split", *STAGE_STEPS, "evaluate", "report", "demo")


def plan_lines(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str], *words: str
) -> dict[str, tuple[str, str]]:
    """Return {step: (action, reason)} as printed, wrapped reasons joined."""
    capsys.readouterr()
    assert pipeline.call("plan", *words) == 0
    found: dict[str, tuple[str, str]] = {}
    step = ""
    for line in capsys.readouterr().out.splitlines()[1:]:
        if line[2] != " ":
            step, action, reason = line.split(None, 2)
            found[step] = (action, reason)
        else:
            found[step] = (found[step][0], f"{found[step][1]} {line.strip()}")
    return found


def test_every_output_stands_where_people_look_for_it(trained: Pipeline) -> None:
    root = trained.workspace
    for stage in STAGES:
        folder = root / "checkpoints" / f"multitask_{stage}"
        assert {"best_model.pth", "last.pth", "history.csv", "curves.png", "samples"} <= {
            p.name for p in folder.iterdir()
        }
    results = root / "results" / "multitask_evaluation"
    assert {
        "metrics.json",
        "report.txt",
        "confusion_matrix.png",
        "metric_distribution.png",
        "sample_predictions.png",
    } <= {path.name for path in results.iterdir()}
    report = root / "results" / "report"
    assert {"report.html", "report.txt", "report.json", "model_card.md"} <= {
        path.name for path in report.iterdir()
    }
    assert len(list((root / "visualizations" / "multitask_gradcam").glob("[0-9]*.png"))) == 4
    assert list((root / "results" / "phase_comparison").glob("*.png"))
    assert len(list((root / "configs" / "final").glob("*.yaml"))) == 9
    assert list((root / "logs").glob("run-*.log"))


def test_a_run_with_nothing_to_do_imports_nothing_heavy(trained: Pipeline) -> None:
    words = [
        "run",
        "--no-input",
        "--until",
        "report",
        "--workspace",
        str(trained.workspace),
        *trained.overrides,
    ]
    code = (
        "import sys\n"
        "from slicewise.cli.main import main\n"
        f"assert main({words!r}) == 0\n"
        f"print([name for name in {(*HEAVY, *COMPOSING)!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "nothing had to run" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_record_is_complete(trained: Pipeline) -> None:
    trained.run("--until", "evaluate")
    record = trained.record
    assert record["success"] is True
    assert record["data_set"] == {"name": "phantom", "synthetic": True}
    assert record["training_mode"] == "quick"
    assert {"python", "torch", "numpy"} <= set(record["versions"])
    assert len(record["config_fingerprint"]) == 64
    for name, step in record["steps"].items():
        assert {"status", "reason", "duration_seconds", "peak_memory_mib", "metrics", "artifacts"} <= set(
            step
        ), name
    joint = record["steps"]["train.joint"]
    assert joint["metrics"]["epochs_run"] == (4 if joint["metrics"]["best_epoch"] else 2)
    gains = record["steps"]["evaluate"]["metrics"]["gains_of_joint"]
    assert {source: [*found] for source, found in gains.items()} == {
        "phantom": ["dice_per_patient", "roc_auc"],
        "phantom_pictures": ["roc_auc"],
    }
    best = next(item for item in joint["artifacts"] if item["path"].endswith("best_model.pth"))
    assert len(best["sha256"]) == 64


def test_nothing_runs_twice(trained: Pipeline) -> None:
    assert trained.run("--mode", "train-eval") == 0
    assert trained.ran() == []
    assert set(trained.statuses().values()) == {"reused", "skipped"}


def test_the_split_keeps_patients_apart_and_says_so_in_readable_json(trained: Pipeline) -> None:
    split = read_json(trained.workspace / "data" / "split" / "split.json")
    for table in split["sources"].values():
        subsets = [set(table[subset]) for subset in ("train", "val", "test")]
        assert sum(map(len, subsets)) == len(set.union(*subsets))
        assert all(subsets)


def test_cls_head_changed_nothing_but_the_head(trained: Pipeline) -> None:
    before, after = (
        load_checkpoint(trained.workspace / "checkpoints" / f"multitask_{stage}" / "best_model.pth").weights
        for stage in ("seg_warmup", "cls_head")
    )
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("class_head") for name in changed)


@pytest.mark.parametrize(
    ("override", "rerun"),
    [
        ("stages.joint.learning_rates.encoder=5e-5", ["train.joint", "evaluate", "report", "demo"]),
        ("stages.cls_head.epochs=3", ["train.cls_head", "train.joint", "evaluate", "report", "demo"]),
        ("training.mask_loss.focal=1.0", [*STAGE_STEPS, "evaluate", "report", "demo"]),
        ("evaluation.bootstrap_samples=300", ["evaluate", "report", "demo"]),
        ("serving.page_port=9999", ["demo"]),
        ("runtime.num_workers=1", ["demo"]),
        ("runtime.checkpoint_seconds=5", ["demo"]),
        ("split.seed=5", [*STEP_NAMES]),
        ("preprocessing.image_size=96", ["preprocess", "split", *STAGE_STEPS, "evaluate", "report", "demo"]),
    ],
)
def test_a_change_reruns_what_depends_on_it_and_nothing_else(
    trained: Pipeline, capsys: pytest.CaptureFixture[str], override: str, rerun: list[str]
) -> None:
    plan = plan_lines(trained.with_overrides(override), capsys)
    assert [name for name, (action, _) in plan.items() if action == "run"] == rerun


def test_reasons_name_key_and_values(trained: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_lines(trained.with_overrides("stages.joint.learning_rates.encoder=5e-5"), capsys)
    assert plan["train.joint"] == ("run", "stages.joint.learning_rates.encoder: 0.0005 -> 5e-05")
    assert plan["evaluate"] == ("run", "train.joint changed")


def test_a_deleted_output_is_named(trained: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    path = trained.workspace / "checkpoints" / "multitask_joint" / "best_model.pth"
    aside = path.with_suffix(".aside")
    path.rename(aside)
    plan = plan_lines(trained, capsys)
    aside.rename(path)
    assert plan["train.joint"] == ("run", "checkpoints/multitask_joint/best_model.pth is missing")
    assert plan["train.seg_warmup"][0] == "reuse"


def test_a_damaged_slice_entry_is_named(trained: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((trained.workspace / "data" / "slices" / "phantom").glob("*/images.npy"))
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    plan = plan_lines(trained, capsys)
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert plan["preprocess"][0] == "run"
    assert "images.npy was changed" in plan["preprocess"][1]


def test_a_stage_outside_the_mode_must_be_current(
    trained: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = trained.with_overrides("preprocessing.image_size=96")
    assert changed.run("--mode", "train-eval") == 2
    assert (
        "needs preprocess, which would have to run: preprocessing.image_size: 64 -> 96"
        in capsys.readouterr().err
    )


def test_a_skip_without_output_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Pipeline(tmp_path).run("--skip-preprocessing", "--until", "split") == 2
    err = capsys.readouterr().err
    assert "--skip-preprocess: later steps need preprocess, but its output is missing" in err
    assert "Leave the option out to make it" in err


@pytest.mark.parametrize(
    ("skip", "override", "message"),
    [
        ("--skip-training", "split.val=0.1 split.train=0.75", "split than this command has. Leave"),
        ("--skip-training", "preprocessing.image_size=96", "made from another preprocess and split than"),
        ("--skip-preprocessing", "preprocessing.image_size=96", "preprocessing.image_size: 64 -> 96"),
        ("--skip-training", "stages.joint.patience=1", "stages.joint.patience: 10 -> 1"),
        ("--skip-evaluation", "evaluation.failure_dice=0.4", "evaluation.failure_dice: 0.5 -> 0.4"),
    ],
)
def test_no_skip_lets_results_be_told_of_settings_that_made_none_of_them(
    trained: Pipeline, capsys: pytest.CaptureFixture[str], skip: str, override: str, message: str
) -> None:
    """The first would test the model on patients of its training."""
    assert trained.with_overrides(*override.split()).run("--until", "report", skip) == 2
    output = capsys.readouterr().err
    assert ": the output of" in output
    assert message in output


def test_quick_baseline_quick_keeps_patients_on_their_side_and_comes_back_for_nothing(
    trained: Pipeline, tmp_path: Path
) -> None:
    """Two scales of the same data: the larger one adds patients, the way back costs nothing."""
    workspace = tmp_path / "modes"
    small = Pipeline(
        workspace,
        (*TINY, "data.sources.volumes.phantom_patients=8", "scale.fraction=0.5", "scale.min_patients=4"),
    )
    shutil.copytree(trained.workspace / "data" / "raw", workspace / "data" / "raw")
    assert small.run("--mode", "data-only") == 0
    first = read_json(workspace / "data" / "split" / "split.json")["sources"]["phantom"]
    large = small.with_overrides("scale.fraction=0.75")
    assert large.run("--mode", "data-only") == 0
    assert large.record["steps"]["preprocess"]["metrics"]["num_reused"] > 0
    second = read_json(workspace / "data" / "split" / "split.json")["sources"]["phantom"]
    for subset in ("train", "val", "test"):
        assert set(first[subset]) <= set(second[subset])
    assert small.run("--mode", "data-only") == 0
    assert small.ran() == []
    assert read_json(workspace / "data" / "split" / "split.json")["sources"]["phantom"] == first


def command(pipeline: Pipeline, *words: str) -> list[str]:
    head = [sys.executable, "-m", "slicewise", "run", "--no-input", "--workspace", str(pipeline.workspace)]
    return [*head, *words, *pipeline.overrides]


def weights(pipeline: Pipeline, stage: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(
        pipeline.workspace / "checkpoints" / f"multitask_{stage}" / "best_model.pth"
    ).weights


@pytest.mark.slow
def test_a_killed_run_continues_and_ends_with_the_same_bits(trained: Pipeline, tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path / "killed", trained.overrides)
    shutil.copytree(trained.workspace / "data", pipeline.workspace / "data")
    shutil.copytree(
        trained.workspace / ".slicewise",
        pipeline.workspace / ".slicewise",
        ignore=shutil.ignore_patterns("lock"),
    )
    history = pipeline.workspace / ".slicewise" / "partial" / "train.seg_warmup"
    with subprocess.Popen(
        command(pipeline, "--until", "train.seg_warmup"), stdout=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while not list(history.glob("*/checkpoint/last.pth")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (pipeline.workspace / "checkpoints").exists()
    assert pipeline.run("--until", "train.seg_warmup") == 0
    assert pipeline.record["steps"]["train.seg_warmup"]["metrics"]["resumed_from"]
    mine, theirs = weights(pipeline, "seg_warmup"), weights(trained, "seg_warmup")
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
