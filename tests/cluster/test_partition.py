"""Two machines that share a folder and cannot reach each other: never two writers."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cluster.conftest import Seal
from tests.fixtures.services import started

from slicewise.cluster.lease import is_done, leases_of
from slicewise.cluster.plan import BUNDLES
from slicewise.engine.fence import end_of


def unshare() -> list[str]:
    """Return the command in front of a program that gives it a network of its own, or skip the test."""
    command = ["unshare", "--net", "--uts"]
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this process may make no network namespace")
    return command


def test_a_job_that_sleeps_in_another_network_and_wakes_up_writes_nothing(
    seal_plan: Seal, tmp_path: Path
) -> None:
    sealed, apart = seal_plan(tmp_path / "work"), unshare()
    job = sealed.group(BUNDLES).jobs[0]
    leases, command = leases_of(sealed.folder, job), [*apart, *sealed.command(BUNDLES)]
    partials = sealed.folder.workspace.state / "partial" / BUNDLES
    with started(command, env=sealed.env, stderr=subprocess.PIPE, text=True) as sleeper:
        while not [*partials.glob("*.1/slices")]:
            assert sleeper.poll() is None
            time.sleep(0.001)
        os.kill(sleeper.pid, signal.SIGSTOP)
        assert end_of(leases, 1) is None, "stopped too late"
        second = subprocess.run(command, env=sealed.env, capture_output=True, text=True, check=False)
        assert second.returncode == 0, second.stderr
        assert is_done(sealed.folder, job)
        store = sealed.pipeline.workspace / "data/slices"
        written = {path: path.stat().st_ino for path in store.rglob("*")}
        os.kill(sleeper.pid, signal.SIGCONT)
        _, error = sleeper.communicate(timeout=120)
    assert sleeper.returncode == 1
    assert "token 1 was given up for 2" in error
    assert {path: path.stat().st_ino for path in store.rglob("*")} == written
    ends = [end_of(leases, number) for number in (1, 2)]
    assert [end and end["state"] for end in ends] == ["fenced", "committed"]
