"""Damage to a finished workspace is reported by the next plan and repaired by the next run."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Pipeline
from tests.test_end_to_end import plan_lines

from slicewise.cli.main import main
from slicewise.core.files import read_json
from slicewise.core.hashing import hash_file
from slicewise.engine.receipt import RECEIPT_NAME, Receipt
from slicewise.models.safe_loading import load_safely, save_safely

Damage = Callable[[Path], None]
STEPS = ("download", "preprocess", "split", "train.seg_warmup", "train.cls_head", "train.joint", "evaluate")
HOMES = {
    "download": "data/index",
    "preprocess": "data/processed",
    "split": "data/split",
    "train.seg_warmup": "checkpoints/multitask_seg_warmup",
    "train.cls_head": "checkpoints/multitask_cls_head",
    "train.joint": "checkpoints/multitask_joint",
    "evaluate": "results/multitask_evaluation",
}
KINDS = {
    "raw volume": ("download", "data/raw/phantom/Phantom_00001/Phantom_00001_t1.nii.gz"),
    "raw picture": ("download", "data/raw/phantom_pictures/*/*1.*"),
    "slice images": ("preprocess", "data/slices/phantom/*/images.npy"),
    "slice masks": ("preprocess", "data/slices/phantom/*/masks.npy"),
    "slice entry": ("preprocess", "data/slices/phantom/*/entry.json"),
    "data index": ("download", "data/index/index.json"),
    "manifest": ("preprocess", "data/processed/manifest.json"),
    "split": ("split", "data/split/split.json"),
    "checkpoint": ("train.cls_head", "checkpoints/multitask_cls_head/best_model.pth"),
    "last state": ("train.seg_warmup", "checkpoints/multitask_seg_warmup/last.pth"),
    "history": ("train.joint", "checkpoints/multitask_joint/history.csv"),
    "metrics": ("evaluate", "results/multitask_evaluation/metrics.json"),
    "receipt": ("train.cls_head", f"checkpoints/multitask_cls_head/{RECEIPT_NAME}"),
    "receipt of one of three homes": ("evaluate", f"results/phase_comparison/{RECEIPT_NAME}"),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_keeping_mtime(path: Path) -> None:
    """What a failing disk does: size and time stamp say nothing."""
    stat = path.stat()
    flip(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def delete(path: Path) -> None:
    path.unlink()


DAMAGES: dict[str, Damage] = {"flip": flip, "truncate": truncate, "delete": delete}


def first(pipeline: Pipeline, pattern: str) -> Path:
    return sorted(pipeline.workspace.glob(pattern))[0]


@contextmanager
def put_back(*paths: Path) -> Iterator[None]:
    kept = [(path, path.read_bytes(), path.stat()) for path in paths]
    yield
    for path, content, stat in kept:
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def actions(plan: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {step: plan[step][0] for step in STEPS}


def expected(damaged: str) -> dict[str, str]:
    """Return what is run, checked and reused when the output of one step is damaged."""
    if damaged == "evaluate":
        return {step: "run" if step == damaged else "reuse" for step in STEPS}
    at = STEPS.index(damaged)
    needs = {"split": ("train.seg_warmup", "train.cls_head", "train.joint", "evaluate")}
    after = needs.get(damaged, STEPS[at + 1 :])
    return {step: "run" if step == damaged else "check" if step in after else "reuse" for step in STEPS}


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (kind, damage)
        for number, kind in enumerate(KINDS)
        for turn, damage in enumerate(DAMAGES)
        if turn == number % len(DAMAGES) or kind in ("raw volume", "slice images", "checkpoint", "receipt")
    ],
)
def test_the_next_plan_names_the_file_and_reruns_its_step_alone(
    trained: Pipeline, capsys: pytest.CaptureFixture[str], kind: str, damage: str
) -> None:
    step, pattern = KINDS[kind]
    path = first(trained, pattern)
    with put_back(path):
        DAMAGES[damage](path)
        plan = plan_lines(trained, capsys)
    assert path.relative_to(trained.workspace).as_posix() in plan[step][1]
    assert actions(plan) == expected(step)


@pytest.mark.parametrize("kind", ["raw volume", "slice entry", "split", "checkpoint", "metrics"])
def test_verify_finds_what_size_and_time_do_not_show_and_the_next_plan_knows(
    trained: Pipeline, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    step, pattern = KINDS[kind]
    path = first(trained, pattern)
    name = path.relative_to(trained.workspace).as_posix()
    with put_back(path):
        flip_keeping_mtime(path)
        assert plan_lines(trained, capsys)[step][0] == "reuse"
        code, found = verify(trained, capsys)
        assert code == 1
        assert [(finding["path"], finding["step"]) for finding in found["findings"]] == [(name, step)]
        plan = plan_lines(trained, capsys)
        assert plan[step] == ("run", f"{name} was changed")
        assert actions(plan) == expected(step)
    assert actions(plan_lines(trained, capsys)) == dict.fromkeys(STEPS, "reuse"), (
        "a restored file counts at once"
    )
    assert verify(trained, capsys) == (0, {**found, "sound": True, "findings": []})
    assert not list(trained.workspace.rglob(".doubts.json"))


def verify(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    capsys.readouterr()
    code = main(["verify", "--json", "--workspace", str(pipeline.workspace)])
    return code, json.loads(capsys.readouterr().out)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = read_json(path)
    change(content)
    path.write_text(json.dumps(content, indent=2))


def change_hashes(receipt: Any) -> None:
    receipt["files"]["checkpoint"]["best_model.pth"]["sha256"] = "0" * 64


@pytest.mark.parametrize(
    "change",
    [
        lambda receipt: receipt.update(fingerprint="0" * 64),
        lambda receipt: receipt["identity"]["settings"].update({"seed": 7}),
        change_hashes,
        lambda receipt: receipt["report"]["metrics"].update(epochs_run=99),
        lambda receipt: receipt.update(product="0" * 64),
        lambda receipt: receipt.pop("digest"),
    ],
    ids=["fingerprint", "identity", "hashes", "metrics", "product", "no digest"],
)
def test_a_receipt_that_was_edited_counts_as_none(
    trained: Pipeline, capsys: pytest.CaptureFixture[str], change: Callable[[Any], None]
) -> None:
    path = trained.workspace / HOMES["train.joint"] / RECEIPT_NAME
    with put_back(path):
        edit(path, change)
        plan = plan_lines(trained, capsys)
        code, found = verify(trained, capsys)
    assert plan["train.joint"] == ("run", f"checkpoints/multitask_joint/{RECEIPT_NAME} is damaged")
    assert actions(plan) == expected("train.joint")
    assert code == 1
    assert found["findings"][0]["fault"] == "is damaged"


def swap_files(one: Path, two: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    two.rename(one)
    aside.rename(two)


def test_swapped_checkpoints_are_named(trained: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        trained.workspace / HOMES[f"train.{stage}"] / "best_model.pth" for stage in ("cls_head", "joint")
    ]
    swap_files(*paths)
    plan = plan_lines(trained, capsys)
    swap_files(*paths)
    for step in ("train.cls_head", "train.joint"):
        assert plan[step][0] == "run"
        assert f"{HOMES[step]}/best_model.pth" in plan[step][1]
    assert plan["train.seg_warmup"][0] == "reuse"


def test_swapped_homes_with_their_receipts_are_named(
    trained: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    homes = [trained.workspace / HOMES[f"train.{stage}"] for stage in ("cls_head", "joint")]
    swap_files(*homes)
    plan = plan_lines(trained, capsys)
    swap_files(*homes)
    assert plan["train.cls_head"] == ("run", "its home holds an output of train.joint")
    assert plan["train.joint"] == ("run", "its home holds an output of train.cls_head")


def test_swapped_slice_entries_are_named(trained: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = sorted((trained.workspace / "data/slices/phantom").iterdir())[:2]
    swap_files(one, two)
    plan = plan_lines(trained, capsys)
    swap_files(one, two)
    assert actions(plan) == expected("preprocess")
    assert one.name in plan["preprocess"][1]


def test_a_patient_moved_to_another_side_of_the_split_is_named(
    trained: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained.workspace / "data/split/split.json"

    def move(split: Any) -> None:
        table = split["sources"]["phantom"]
        table["train"][0], table["test"][0] = table["test"][0], table["train"][0]

    with put_back(path):
        edit(path, move)
        plan = plan_lines(trained, capsys)
    assert "data/split/split.json" in plan["split"][1]
    assert actions(plan) == expected("split")


def test_a_checkpoint_of_another_run_is_refused_even_where_the_plan_cannot_see_it(
    trained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hardest swap: the size is right, the time stamp is right, and nobody has verified."""
    pipeline = Pipeline(tmp_path / "copy", trained.overrides)
    shutil.copytree(trained.workspace, pipeline.workspace)
    path = pipeline.workspace / HOMES["train.joint"] / "best_model.pth"
    stat = path.stat()
    content = {**load_safely(path), "metrics": {}, "fingerprint": ""}
    save_safely(path, content)
    save_safely(path, {**content, "fingerprint": "0" * (stat.st_size - path.stat().st_size)})
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert pipeline.run("--only", "evaluate", "--force", "evaluate") == 1
    assert "is not the output of train.joint, but a checkpoint of joint" in capsys.readouterr().err


def test_a_foreign_checkpoint_with_its_receipt_is_other_settings(
    trained: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another workspace's receipt is sound, but its data are not ours."""
    home = trained.workspace / HOMES["train.joint"]
    with put_back(home / RECEIPT_NAME):
        receipt = Receipt.read(home)
        assert receipt is not None
        identity = replace(receipt.identity, needs={**receipt.identity.needs, "split": "0" * 64})
        replace(receipt, identity=identity).write(home)
        plan = plan_lines(trained, capsys)
    assert plan["train.joint"] == ("run", "split changed")


def test_a_damaged_record_or_table_of_hashes_costs_nothing(
    trained: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("pipeline_results.json", ".slicewise/hashes.json")
    paths = [trained.workspace / name for name in names]
    with put_back(*paths):
        paths[0].write_text('{"status": "comp')
        edit(paths[1], lambda table: next(iter(table["files"].values())).__setitem__(3, "0" * 64))
        assert main(["status", "--workspace", str(trained.workspace)]) == 0
        code, found = verify(trained, capsys)
        assert code == 1
        assert [finding["path"] for finding in found["findings"]] == list(names)
        assert actions(plan_lines(trained, capsys)) == dict.fromkeys(STEPS, "reuse")
        assert trained.run("--until", "evaluate") == 0
        assert trained.ran() == []
        assert verify(trained, capsys)[0] == 0


@pytest.mark.slow
def test_one_run_mends_damaged_data_to_the_same_content_and_nothing_trains_again(
    trained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline(tmp_path / "repaired", trained.overrides)
    shutil.copytree(trained.workspace, pipeline.workspace)
    before = contents(pipeline)
    for kind in ("raw volume", "slice images", "slice entry", "raw picture"):
        flip_keeping_mtime(first(pipeline, KINDS[kind][1]))
    first(pipeline, KINDS["slice masks"][1]).unlink()
    (pipeline.workspace / HOMES["split"] / RECEIPT_NAME).unlink()
    code, found = verify(pipeline, capsys)
    assert (code, len(found["findings"])) == (1, 6)
    assert pipeline.run("--until", "split") == 0
    assert pipeline.ran() == ["download", "preprocess", "split"]
    assert set(actions(plan_lines(pipeline, capsys)).values()) == {"reuse"}, "nothing trains again"
    assert contents(pipeline) == before
    assert verify(pipeline, capsys)[0] == 0


def contents(pipeline: Pipeline) -> dict[str, str]:
    """Return the content of everything that decides a result; timings and figures may differ."""
    patterns = ("data/**/*", "checkpoints/*/best_model.pth", "results/multitask_evaluation/metrics.json")
    paths = [path for pattern in patterns for path in pipeline.workspace.glob(pattern) if path.is_file()]
    return {
        path.relative_to(pipeline.workspace).as_posix(): hash_file(path)
        for path in paths
        if path.name not in (RECEIPT_NAME, "problems.txt")
    }


def test_verify_tells_people_what_is_damaged_who_made_it_and_what_happens(
    trained: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    path = first(trained, KINDS["split"][1])
    words = ["verify", "--workspace", str(trained.workspace)]
    with put_back(path):
        flip(path)
        assert main(words) == 1
        lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "data/split/split.json was changed",
        "  split is made again by the next run",
    ]
    assert lines[-1].endswith("1 damaged or missing; `slicewise plan` shows what will run")
    assert main(words) == 0
    assert "all are as they were made" in capsys.readouterr().out
