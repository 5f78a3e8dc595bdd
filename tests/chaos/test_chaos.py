"""The short part of `make chaos`: one run that is killed at writes and stopped in a step."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.chaos.__main__ import choose_kills
from tests.chaos.outputs import leftovers, unsound
from tests.chaos.report import is_clean, summarise, table
from tests.chaos.runs import (
    ROOT,
    TARGETS,
    Attempt,
    Kill,
    Run,
    Usual,
    command,
    killed_run,
    members,
    read_record,
    uninterrupted,
)
from tests.conftest import Pipeline

from slicewise.demo.processes import find_process
from slicewise.demo.state import read_state


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def usual(trained: Pipeline, folder: Path) -> Usual:
    return uninterrupted(folder, trained.workspace / "data" / "raw")


@pytest.mark.slow
def test_a_run_killed_and_stopped_resumes_and_ends_like_an_uninterrupted_one(
    usual: Usual, folder: Path
) -> None:
    """`make chaos` kills and stops runs in every step."""
    kills = [
        Kill("preprocess", count=5, in_worker=True),
        Kill("train.cls_head", count=usual.num_writes["train.cls_head"] // 2, delay=0.001),
    ]
    run = killed_run(folder, 1, usual, kills, stops=("evaluate",))
    figures = summarise(usual, [run])
    assert is_clean(figures), table(figures)
    assert figures["kills"] == figures["kills_at_a_write"] == 2


@pytest.mark.slow
def test_ctrl_c_while_the_demo_starts_leaves_no_service(
    usual: Usual, folder: Path, free_ports: list[int]
) -> None:
    workspace = folder / "usual"
    words = [word for word in command(workspace) if word not in ("--until", "report")]
    ports = [f"serving.api_port={free_ports[0]}", f"serving.page_port={free_ports[1]}"]
    output = folder / "demo.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [*words, *ports, "serving.supervisor=builtin", "serving.phantom_cases=0"],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
        )
    home = workspace / ".slicewise" / "demo"
    while (state := read_state(home)) is None or not state.processes():
        assert process.poll() is None, output.read_text()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(120)
    text = output.read_text()
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert not any(find_process(identity) for identity in state.processes())
    assert members(process.pid) == []
    assert read_state(home) is None
    assert read_record(workspace)["steps"]["demo"]["status"] == "interrupted"


def test_every_step_is_killed_equally_often_and_the_same_seed_gives_the_same_moments() -> None:
    usual = Usual({}, 20.0, {}, dict.fromkeys(TARGETS, 30))
    kills = [choose_kills(usual, number, 3, seed=0) for number in range(len(TARGETS))]
    for step in TARGETS:
        assert sum(kill.step == step for run_kills in kills for kill in run_kills) == 3
    assert kills == [choose_kills(usual, number, 3, seed=0) for number in range(len(TARGETS))]
    assert kills != [choose_kills(usual, number, 3, seed=1) for number in range(len(TARGETS))]


@pytest.mark.parametrize("damage", ["changed", "stray", "no receipt", "slice"])
def test_incomplete_outputs_are_reported(trained: Pipeline, tmp_path: Path, damage: str) -> None:
    for name in ("data/split", "data/slices"):
        shutil.copytree(trained.workspace / name, tmp_path / name)
    assert list(unsound(tmp_path)) == []
    if damage == "changed":
        (tmp_path / "data/split/split.json").write_text("{}")
    elif damage == "stray":
        (tmp_path / "data/split/.split.json.x.unfinished").touch()
        assert leftovers(tmp_path) == ["data/split/.split.json.x.unfinished"]
    elif damage == "no receipt":
        (tmp_path / "data/split/.receipt.json").unlink()
    else:
        next((tmp_path / "data/slices").glob("*/*/masks.npy")).write_bytes(b"half")
    assert len(list(unsound(tmp_path))) == 1


def test_a_difference_makes_the_report_unclean() -> None:
    usual = Usual({"a": "1"}, 1.0, {}, {})
    killed = Attempt(2.0, -9, step="split", event="os.rename")
    assert is_clean(summarise(usual, [Run(0, [killed, Attempt(1.0, 0)], [], [])]))
    assert not is_clean(summarise(usual, [Run(0, [killed, Attempt(1.0, 0)], ["a"], [])]))
    assert not is_clean(summarise(usual, [Run(0, [Attempt(1.0, 1)], [], [])]))
    assert not is_clean(summarise(usual, [Run(0, [Attempt(1.0, 0)], [], ["x.part"])]))
    killed.faults.append("incomplete output")
    figures = summarise(usual, [Run(0, [killed], [], [])])
    assert not is_clean(figures)
    assert figures["kills_per_step"]["split"] == figures["kills_at_a_write"] == 1
    assert "incomplete output" in table(figures)
