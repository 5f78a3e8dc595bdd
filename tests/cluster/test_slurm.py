"""`slicewise run --on slurm` on a cluster of two nodes on loopback."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.conftest import WORDS
from tests.conftest import Pipeline
from tests.fixtures.slurm import Slurm
from tests.test_image_masks_run import pipeline_on

from slicewise.cluster.lease import leases_of
from slicewise.cluster.plan import Job, newest_plan
from slicewise.core.files import read_json
from slicewise.engine.workspace import Workspace

SMALL_JOBS = ("cluster.train.cpus=1", "cluster.evaluate.cpus=1", "stages.train.epochs=3")
HELD = "cluster.options=[--hold]"
SAVE_OFTEN = "runtime.checkpoint_seconds=1e-3"


@pytest.fixture
def login(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """This process is on a login node of the cluster."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.env[name])
    return slurm


def on_slurm(run: Pipeline, *words: str) -> int:
    return run.call("run", "--on", "slurm", "--until", "evaluate", *words)


def job_of(workspace: Path, name: str) -> tuple[Path, Path]:
    """Return the folder of the tokens of a job, and its log."""
    folder = newest_plan(Workspace(workspace))
    assert folder is not None
    return leases_of(folder, Job(name, name)), folder.logs / f"{name}-0.log"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_in_the_midst(workspace: Path) -> None:
    """Kill the program of the training once it has saved."""
    leases, _ = job_of(workspace, "train.train")
    partial = workspace / ".slicewise/partial/train.train"
    wait_until(lambda: bool([*partial.glob("*.1/checkpoint/last.pth")]))
    os.kill(read_json(leases / "1.claim")["pid"], signal.SIGKILL)


def same_bits(one: Path, other: Path) -> bool:
    names = ("results/multitask_evaluation/metrics.json", "results/multitask_evaluation/slices.csv")
    paths = [path for path in (one / "data/slices").rglob("*") if path.is_file()]
    paths += [one / "data/split/split.json", one / "data/processed/manifest.json"]
    paths += [one / "checkpoints/multiclass_train/best_model.pth", *(one / name for name in names)]
    return all(path.read_bytes() == (other / path.relative_to(one)).read_bytes() for path in paths)


def test_a_run_with_a_killed_and_a_requeued_job_has_the_bits_of_a_local_one(
    login: Slurm, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = pipeline_on(pictures, tmp_path / "remote", *WORDS, *SMALL_JOBS, SAVE_OFTEN)
    local = pipeline_on(pictures, tmp_path / "local", *WORDS, *SMALL_JOBS, SAVE_OFTEN)
    held = remote.with_overrides(HELD)
    assert on_slurm(held) == 0
    assert capsys.readouterr().out.count("submitted") == 5

    assert remote.run() == 2, "beside jobs no other run may work"
    assert on_slurm(held.with_overrides("seed=7")) == 2
    captured = capsys.readouterr()
    assert "the jobs of plan 1 work in" in captured.err
    assert "in progress with another configuration" in captured.err
    assert on_slurm(held) == 0
    assert remote.call_bare("status") == 0
    out = capsys.readouterr().out
    assert "all that is left waits or runs already" in out
    assert "Slurm says of waiting tasks: JobHeldUser" in out

    login.run("scontrol", "release", *{task.partition("_")[0] for task, _, _ in login.queue()})
    kill_in_the_midst(remote.workspace)
    leases, log = job_of(remote.workspace, "evaluate")
    wait_until(lambda: (leases / "1.claim").exists())
    login.run("scontrol", "requeue", read_json(leases / "1.claim")["slurm"])
    assert local.run("--until", "evaluate") == 0
    assert remote.call_bare("status", "--watch") == 0
    assert "all jobs are done" in capsys.readouterr().out
    assert "token 2" in log.read_text()

    assert on_slurm(remote) == 0
    assert "nothing had to run" in capsys.readouterr().out
    assert remote.record["steps"]["train.train"]["metrics"]["resumed_from"] is not None
    assert same_bits(local.workspace, remote.workspace)


def test_what_is_cancelled_leaves_the_queue_and_a_local_run_does_the_rest(
    login: Slurm, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pipeline_on(pictures, tmp_path / "work", *WORDS, *SMALL_JOBS, HELD)
    assert on_slurm(run, "--until", "split") == 0
    assert login.queue()
    assert run.call_bare("cancel") == 0
    assert "plan 1 has ended" in capsys.readouterr().out
    login.wait()
    assert run.call_bare("cancel") == 0
    assert "no jobs work in this workspace" in capsys.readouterr().out
    assert run.run("--until", "split") == 0


def test_what_slurm_refuses_can_be_corrected_and_submitted_again(
    login: Slurm, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pipeline_on(pictures, tmp_path / "work", *WORDS, *SMALL_JOBS)
    assert on_slurm(run, "--until", "split", "cluster.partition=nowhere") == 1
    assert "sbatch failed: sbatch: error: invalid partition specified: nowhere" in capsys.readouterr().err
    assert run.call_bare("status", "--watch") == 1
    assert "The same run again submits what is missing" in capsys.readouterr().out
    assert on_slurm(run, "--until", "split", HELD) == 0
    assert capsys.readouterr().out.count("submitted") == 3
    assert run.call_bare("cancel") == 0


def test_without_slurm_the_error_says_where_to_run(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert on_slurm(pipeline_on(pictures, tmp_path / "work", *WORDS), "--until", "split") == 1
    assert "squeue is not installed here; run on a login node" in capsys.readouterr().err
