"""`slicewise run --on slurm` on a cluster of two nodes on loopback."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.cluster.conftest import WORDS, wait_until
from tests.conftest import Pipeline
from tests.fixtures.slurm import Slurm
from tests.test_image_masks_run import pipeline_on

from slicewise.cluster.lease import leases_of
from slicewise.cluster.plan import Job, newest_plan
from slicewise.cluster.slurm import num_slots
from slicewise.core.files import read_json
from slicewise.engine.workspace import Workspace

SMALL_JOBS = ("cluster.train.cpus=1", "cluster.evaluate.cpus=1", "stages.train.epochs=3")
HELD = "cluster.options=[--hold]"
SAVE_OFTEN = "runtime.checkpoint_seconds=1e-3"


def on_slurm(run: Pipeline, *words: str) -> int:
    return run.call("run", "--on", "slurm", "--until", "evaluate", *words)


def job_of(workspace: Path, name: str) -> tuple[Path, Path]:
    """Return the folder of the tokens of a job, and its log."""
    folder = newest_plan(Workspace(workspace))
    assert folder is not None
    return leases_of(folder, Job(name, name)), folder.logs / f"{name}-0.log"


def stop_in_the_midst(workspace: Path, *names: str) -> list[psutil.Process]:
    """Suspend the program of each training as soon as it has saved: another one may begin much later."""
    programs: dict[str, psutil.Process] = {}

    def stop() -> bool:
        for name in names:
            saved = (workspace / ".slicewise/partial" / name).glob("*.1/checkpoint/last.pth")
            if name not in programs and any(saved):
                leases, _ = job_of(workspace, name)
                programs[name] = psutil.Process(read_json(leases / "1.claim")["pid"])
                programs[name].suspend()
        return len(programs) == len(names)

    wait_until(stop)
    return [programs[name] for name in names]


def first_claim(workspace: Path, name: str) -> dict[str, Any]:
    """Return what the first attempt at a job says of itself, once it has begun."""
    leases, _ = job_of(workspace, name)
    wait_until(lambda: (leases / "1.claim").exists())
    claim: dict[str, Any] = read_json(leases / "1.claim")
    return claim


def results(workspace: Path) -> dict[str, bytes]:
    """Return the files that two runs with the same settings make alike."""
    names = ("best_model.pth", "metrics.json", "slices.csv", "split.json", "manifest.json")
    paths = [path for path in (workspace / "data/slices").rglob("*") if path.is_file()]
    paths += [path for name in names for path in workspace.glob(f"[!.]*/**/{name}")]
    return {path.relative_to(workspace).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_disturbed_jobs_of_folds_have_the_bits_of_a_local_run(
    login: Slurm, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*WORDS, *SMALL_JOBS, SAVE_OFTEN, "split.folds=2")
    remote = pipeline_on(pictures, tmp_path / "remote", *words)
    local = pipeline_on(pictures, tmp_path / "local", *words)
    held = remote.with_overrides(HELD)
    assert on_slurm(held) == 0
    out = capsys.readouterr().out
    assert out.count("submitted") == 6
    assert out.count(": 2 tasks") == 4, "bundles, and the folds of each step"

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
    first, second = stop_in_the_midst(remote.workspace, "fold1.train.train", "fold2.train.train")
    reach_time_limit(login, remote.workspace, "fold2.train.train")
    second.resume()
    logs = job_of(remote.workspace, "fold1.evaluate")[1].parent
    wait_until(lambda: "queued again" in (logs / "train.train-1.log").read_text())
    preempt(login, first)
    assert local.run("--until", "evaluate") == 0
    os.kill(first_claim(remote.workspace, "fold1.evaluate")["pid"], signal.SIGKILL)
    assert remote.call_bare("status", "--watch") == 0
    assert "all jobs are done" in capsys.readouterr().out

    assert "PREEMPTION" in (logs / "train.train-0.log").read_text()
    attempts = {"train.train-0": 2, "train.train-1": 2, "evaluate-0": 2, "evaluate-1": 1}
    for name, number in attempts.items():
        assert (logs / f"{name}.log").read_text().count(", token ") == number, name
    assert on_slurm(remote) == 0
    assert "nothing had to run" in capsys.readouterr().out
    steps = remote.record["steps"]
    assert all(steps[f"fold{n}.train.train"]["metrics"]["resumed_from"] is not None for n in (1, 2))
    made = results(local.workspace)
    assert sum(name.endswith("best_model.pth") for name in made) == 2
    assert made == results(remote.workspace)


def reach_time_limit(login: Slurm, workspace: Path, name: str) -> None:
    """Send what Slurm sends when the limit is near, which it looks at twice a minute."""
    login.run("scancel", "--batch", "--signal=USR1", first_claim(workspace, name)["slurm"])


def preempt(login: Slurm, program: psutil.Process) -> None:
    """Ask for the whole node of a program, with priority; wait until the program has ended."""
    node = program.environ()["SLURMD_NODENAME"]
    options = ("--partition=urgent", "--cpus-per-task=2", f"--nodelist={node}", "--output=/dev/null")
    login.run("sbatch", *options, "--wrap=true")
    wait_until(lambda: not program.is_running())


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


def test_the_number_of_tasks_at_a_time_is_that_of_the_partition(login: Slurm) -> None:
    assert [num_slots(None, 1), num_slots("gpu", 2), num_slots("gpu,urgent", 2)] == [4, 2, 4]
    assert num_slots("nowhere", 1) == 0


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
