"""`slicewise run --on ray` on a Ray of two processors on loopback."""

import csv
import importlib.util
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.cluster.conftest import WORDS, wait_until
from tests.cluster.test_slurm import results, stop_in_the_midst
from tests.conftest import Pipeline
from tests.test_image_masks_run import pipeline_on

from slicewise.cli.main import main
from slicewise.cluster import ray_workers
from slicewise.cluster.ray_workers import RayError, Share, fit
from slicewise.config.compose import compose
from slicewise.config.schema.cluster import JobResources
from slicewise.core.files import read_json
from slicewise.engine.receipt import Receipt

UNTIL = ("--until", "train")
SAVE_OFTEN = "runtime.checkpoint_seconds=1e-3"
EXACT = ("training.precision=fp32", "training.optimizer.name=sgd", "stages.train.epochs=2")


def on_ray(run: Pipeline, address: str, *words: str) -> int:
    here = run.with_overrides(f"cluster.ray.address={address}")
    return here.call("run", "--no-input", "--on", "ray", *(words or UNTIL))


def during(action: Callable[[], None]) -> threading.Thread:
    """Start what happens while this thread runs jobs."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def claims(workspace: Path, what: str) -> list[int]:
    """Return the number of attempts at each job."""
    numbers = [len([*each.glob("*.claim")]) for each in workspace.glob(f".slicewise/leases/{what}/*")]
    return sorted(filter(None, numbers))


def kill_a_bundle(workspace: Path) -> None:
    """Kill the worker that has begun the first bundle."""
    wait_until(lambda: bool(claims(workspace, "preprocess.cases")))
    path = next(workspace.glob(".slicewise/leases/preprocess.cases/*/1.claim"))
    os.kill(read_json(path)["pid"], signal.SIGKILL)


@pytest.mark.slow
def test_killed_workers_cost_their_jobs_and_the_bits_are_those_of_a_local_run(
    ray_address: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*WORDS, "stages.train.epochs=3", SAVE_OFTEN)
    remote = pipeline_on(pictures, tmp_path / "remote", *words)
    local = pipeline_on(pictures, tmp_path / "local", *words)

    def disturb() -> None:
        kill_a_bundle(remote.workspace)
        [training] = stop_in_the_midst(remote.workspace, "train.train")
        training.kill()

    disturbing = during(disturb)
    assert on_ray(remote, ray_address, "--until", "evaluate") == 0
    disturbing.join(1)
    assert not disturbing.is_alive()
    assert "nothing had to run" in capsys.readouterr().out
    assert claims(remote.workspace, "preprocess.cases") == [1, 1, 1, 2]
    assert claims(remote.workspace, "train.train") == [2]
    assert remote.record["steps"]["train.train"]["metrics"]["resumed_from"] is not None
    assert local.run("--until", "evaluate") == 0
    assert results(local.workspace) == results(remote.workspace)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "cancel"])
def test_a_stopped_run_ends_its_workers_and_goes_on_where_it_was(
    how: str, ray_address: str, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = pipeline_on(pictures, tmp_path / "work", *WORDS, "stages.train.epochs=10", SAVE_OFTEN)
    last = run.workspace / ".slicewise/partial/train.train"

    def stop() -> None:
        wait_until(lambda: any(last.glob("*/checkpoint/last.pth")))
        if how == "Ctrl-C":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            assert main(["cancel", "--workspace", str(run.workspace)]) == 0

    stopping = during(stop)
    assert on_ray(run, ray_address) == (130 if how == "Ctrl-C" else 1)
    stopping.join(30)
    assert not stopping.is_alive()
    written = capfd.readouterr()
    assert ("stopped" if how == "Ctrl-C" else "plan 1 was cancelled") in written.out + written.err
    assert any(last.glob("*/checkpoint/last.pth"))
    assert not run.workspace.joinpath("checkpoints").exists()
    assert on_ray(run, ray_address) == 0
    receipt = Receipt.read(next((run.workspace / "checkpoints").iterdir()))
    assert receipt is not None
    assert receipt.report.metrics["resumed_from"] is not None
    assert not [*last.iterdir()], "what was given up leaves nothing"


@pytest.mark.slow
def test_two_workers_have_the_loss_curve_of_one_process(
    ray_address: str, pictures: Path, tmp_path: Path
) -> None:
    def curve(workspace: Path) -> list[list[float]]:
        with next(workspace.glob("checkpoints/*/history.csv")).open(newline="") as stream:
            return [[float(row["train_loss"]), float(row["val_loss"])] for row in csv.DictReader(stream)]

    one = pipeline_on(pictures, tmp_path / "one", *WORDS, *EXACT)
    two = pipeline_on(pictures, tmp_path / "two", *WORDS, *EXACT, "runtime.num_processes=2")
    assert one.run(*UNTIL) == 0
    assert on_ray(two, ray_address) == 0
    losses = curve(one.workspace)
    np.testing.assert_allclose(curve(two.workspace), losses, rtol=1e-5)
    assert abs(losses[0][0] - losses[1][0]) > 1e-2, "an epoch changes the loss by more"
    log = (two.workspace / "logs/jobs-1/train.train-0.log").read_text()
    assert "token 1" in log


def test_ray_listens_on_this_machine_alone(ray_address: str, ray_process: "subprocess.Popen[str]") -> None:
    parts = psutil.Process(ray_process.pid).children(recursive=True)
    listening = [
        each.laddr.ip for part in parts for each in part.net_connections("inet") if each.status == "LISTEN"
    ]
    assert len(listening) > 2
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_where_there_is_no_ray_the_error_names_the_way_out(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pipeline_on(pictures, tmp_path / "work", *WORDS)
    find_spec = importlib.util.find_spec
    with monkeypatch.context() as patch:
        patch.setattr(ray_workers, "find_spec", lambda name: None if name == "ray" else find_spec(name))
        assert on_ray(run, "auto") == 2
    assert "install slicewise[ray]" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_address_without_ray_is_named_at_once(address: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    settings = compose([f"cluster.ray.address={address}"]).cluster
    with (
        pytest.raises(RayError, match=rf"cannot be reached at {address}: .* correct cluster\.ray\.address"),
        ray_workers.connected(settings, tmp_path),
    ):
        pass


def resources(cpus: int, gpus: int = 0, memory_mib: int = 1024) -> JobResources:
    return JobResources(partition=None, cpus=cpus, memory_mib=memory_mib, gpus=gpus, minutes=1)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Two nodes of a Ray, with eight processors and two GPUs each."""
    ray = pytest.importorskip("ray")
    size = {"CPU": 8.0, "GPU": 2.0, "memory": float(64 << 30)}
    found = [{"Alive": True, "Resources": {**size}} for _ in range(2)]
    monkeypatch.setattr(ray, "nodes", lambda: found)
    return found


def test_each_process_of_a_stage_has_its_part_of_what_the_job_asks_for(nodes: list[dict[str, Any]]) -> None:
    assert fit(resources(8, 4), "train", 4) == Share(2, 1.0, 256 << 20, 4)
    assert fit(resources(1), "data") == Share(1, 0.0, 1 << 30)
    assert Share(2, 1.0, 0, 4).bundle == {"CPU": 2, "GPU": 1.0}


def test_a_job_gets_what_there_is_and_is_refused_without_its_gpus(
    nodes: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(resources(16, memory_mib=1 << 20), "train") == Share(8, 0.0, 0)
    assert "less than cluster.train asks for" in capsys.readouterr().out
    nodes[0]["Alive"] = False
    with pytest.raises(RayError, match=r"no room for 4 x \(1 GPUs .* lower cluster\.train\.gpus"):
        fit(resources(4, 4), "train", 4)
