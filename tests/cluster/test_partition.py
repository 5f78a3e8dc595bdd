"""Two machines that share a folder and cannot reach each other: never two writers."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from tests.cluster.conftest import WORDS, Seal, wait_until
from tests.cluster.test_job import outputs
from tests.fixtures.services import started
from tests.fixtures.slurm import Slurm, running_slurm, why_not
from tests.test_image_masks_run import pipeline_on

from slicewise.cluster.lease import is_done, leases_of
from slicewise.cluster.plan import BUNDLES, newest_plan
from slicewise.core.files import read_json
from slicewise.engine.fence import end_of, numbers
from slicewise.engine.workspace import Workspace


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


_CONTROLLER = """
import errno, fcntl, sys
import slicewise.engine.lock as lock
from slicewise.cli.main import main

def refuse(*_):  # as on a shared folder whose server has no locks
    raise OSError(errno.ENOLCK, "no locks")

fcntl.flock = refuse
lock.STALE_SECONDS, lock.BEAT_SECONDS = 2.0, 0.2
sys.exit(main(sys.argv[1:]))
"""
_BLOCKED_SBATCH = """#!/bin/sh
touch {folder}/asked
while [ ! -e {folder}/go ]; do sleep 0.1; done
exec /usr/bin/sbatch "$@"
"""


@contextmanager
def network(host: str) -> Iterator[list[str]]:
    """Yield the command in front of a program that runs on another machine, as far as the network goes."""
    # A name is looked up only where there is another address than that of loopback.
    loopback = "ip link set lo up && ip addr add 192.0.2.1/32 dev lo"
    begin = f"{loopback} && hostname {host} && echo up && exec sleep infinity"
    with started([*unshare(), "sh", "-c", begin], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        yield ["nsenter", f"--target={holder.pid}", "--net", "--uts"]


@pytest.mark.slow
def test_two_controllers_that_cannot_reach_each_other_submit_the_same_jobs_and_each_is_done_once(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Each one has a cluster of its own, and both have the folder; the first sleeps while it submits."""
    if reason := why_not():
        pytest.skip(reason)
    run, local = (pipeline_on(pictures, tmp_path / name, *WORDS) for name in ("work", "local"))
    words = ["run", "--workspace", str(run.workspace), "--on", "slurm", "--until", "split", *run.overrides]
    command = [sys.executable, "-c", _CONTROLLER, *words, "--wait", "60"]
    with two_clusters(tmp_path_factory) as ((one, apart), (two, apart_too)):
        block_sbatch(one, tmp_path)
        sleeper = subprocess.Popen([*apart, *command], env=one.env, stderr=subprocess.PIPE, text=True)
        wait_until((tmp_path / "asked").exists)
        os.kill(sleeper.pid, signal.SIGSTOP)
        subprocess.run([*apart_too, *command], env=two.env, check=True)

        folder = newest_plan(Workspace(run.workspace))
        assert folder is not None
        bundle = folder.plan.groups[0].jobs[0]
        claim = leases_of(folder, bundle) / "1.claim"
        wait_until(claim.exists)
        writer = psutil.Process(read_json(claim)["pid"])
        writer.suspend()
        (tmp_path / "go").touch()
        wait_until(lambda: is_done(folder, bundle))
        os.kill(sleeper.pid, signal.SIGCONT)
        writer.resume()
        _, error = sleeper.communicate(timeout=60)
        assert re.search(r"was given up for|is in use by", error)
        assert sleeper.returncode == 1
        one.wait()
        two.wait()
        for _ in range(3):  # what was given up on one side failed there, and so did what waited for it
            subprocess.run([*apart_too, *command], env=two.env, check=True)
            two.wait()
        hosts = {read_json(path)["host"] for path in leases_of(folder, bundle).glob("*.claim")}
    assert hosts == {"one", "two"}
    for job in folder.plan.jobs:
        leases = leases_of(folder, job)
        states = [end["state"] for number in numbers(leases) if (end := end_of(leases, number))]
        assert states.count("committed") == 1, job.name
    assert local.run("--until", "split") == 0
    assert outputs(run.workspace) == outputs(local.workspace)


@contextmanager
def two_clusters(
    folders: pytest.TempPathFactory,
) -> Iterator[list[tuple[Slurm, list[str]]]]:
    """Yield two clusters of a node each, and the command in front of what runs beside each of them."""
    with ExitStack() as stack:
        apart = [stack.enter_context(network(name)) for name in ("one", "two")]
        yield [
            (stack.enter_context(running_slurm(folders.mktemp("s"), 1, prefix=prefix)), prefix)
            for prefix in apart
        ]


def block_sbatch(cluster: Slurm, folder: Path) -> None:
    """Let sbatch wait for the file `go`."""
    (folder / "sbatch").write_text(_BLOCKED_SBATCH.format(folder=folder))
    (folder / "sbatch").chmod(0o755)
    cluster.env["PATH"] = f"{folder}:{cluster.env['PATH']}"
