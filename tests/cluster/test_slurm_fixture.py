"""What the fixture of Slurm starts ends with the process that uses it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.fixtures.services import started
from tests.fixtures.slurm import users_of, why_not

_USE = """
import sys, time
from pathlib import Path
from tests.fixtures.slurm import running_slurm
with running_slurm(Path(sys.argv[1]), num_nodes=1) as slurm:
    runs = slurm.folder / "runs"
    slurm.run("sbatch", "--output=/dev/null", f"--wrap=touch {runs}; sleep 300")
    while not runs.exists():
        time.sleep(0.1)
    print("running", flush=True)
    time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_of_slurm_is_left_after_an_interrupted_test(tmp_path: Path, number: signal.Signals) -> None:
    if reason := why_not():
        pytest.skip(reason)
    command, root = [sys.executable, "-c", _USE, str(tmp_path)], Path(__file__).parents[2]
    with started(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "running\n"
        names = {process.name() for process in users_of(tmp_path / "slurm.conf")}
        assert names >= {"munged", "slurmctld", "slurmd", "slurmstepd"}
        os.kill(user.pid, number)
        user.wait(60)
    deadline = time.monotonic() + 60
    while left := users_of(tmp_path / "slurm.conf"):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
