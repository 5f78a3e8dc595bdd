"""Calls of functions as jobs of Slurm."""

import math
import operator
import time
from pathlib import Path

import pytest
from tests.cluster.conftest import wait_until
from tests.fixtures.slurm import Slurm

from slicewise.cluster.slurm import SlurmError
from slicewise.cluster.slurm_calls import slurm_calls
from slicewise.config.compose import compose
from slicewise.engine.workspace import Workspace

SETTINGS = compose(["cluster.train.cpus=1", "cluster.train.memory_mib=0"]).cluster


def running(login: Slurm, part: str) -> list[str]:
    """Return the running tasks with this part in their name; those of other tests may end meanwhile."""
    return [task for task, state, name in login.queue() if state == "RUNNING" and part in name]


def test_calls_return_or_raise_ask_and_begin_again_where_they_are_requeued(
    login: Slurm, tmp_path: Path
) -> None:
    with slurm_calls(Workspace(tmp_path), SETTINGS) as calls:
        callback = calls.callback(lambda number, value: number * value, default=None)
        log = tmp_path / "logs/calls.log"
        long = calls.start("long", time.sleep, 3, log=log)
        wait_until(lambda: bool(running(login, "-long-")))
        login.run("scontrol", "requeue", running(login, "-long-")[0])
        assert calls.start("product", operator.mul, 6, 7, log=log).result(120) == 42
        assert calls.start("asks", callback, 3, 0.5, log=log).result(120) == 1.5
        with pytest.raises(SlurmError, match="ValueError: factorial"):
            calls.start("fails", math.factorial, -1, log=log).result(120)
        assert long.result(120) is None
    login.wait()


def test_a_call_that_leaves_the_queue_without_a_result_has_failed(login: Slurm, tmp_path: Path) -> None:
    held = SETTINGS.model_copy(update={"options": ("--hold",)})
    with slurm_calls(Workspace(tmp_path), held) as calls:
        lost = calls.start("lost", operator.mul, 6, 7, log=tmp_path / "lost.log")
        login.run("scancel", login.queue()[0][0])
        with pytest.raises(SlurmError, match="ended without a result"):
            lost.result(120)


def test_what_waits_is_cancelled_where_nobody_waits_for_it(login: Slurm, tmp_path: Path) -> None:
    held = SETTINGS.model_copy(update={"options": ("--hold",)})
    with pytest.raises(KeyboardInterrupt), slurm_calls(Workspace(tmp_path), held) as calls:
        calls.start("waits", operator.mul, 6, 7, log=tmp_path / "waits.log")
        assert login.queue()
        raise KeyboardInterrupt
    login.wait()
