"""sbatch, squeue and scancel. Nobody has to run `slurmdbd`, and what a queue says decides nothing."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slicewise.core.errors import SliceWiseError

_TIMEOUT_SECONDS: Final = 60
_FORMAT: Final = "%F|%K|%T|%r|%j"
_DEAD_REASON: Final = "DependencyNeverSatisfied"


class SlurmError(SliceWiseError):
    """Slurm is missing, does not respond, or refuses a command."""


@dataclass(frozen=True)
class Task:
    """A task of an array that waits or runs."""

    array: int
    index: int
    state: str
    reason: str
    name: str

    @property
    def id(self) -> str:
        return f"{self.array}_{self.index}"

    @property
    def is_running(self) -> bool:
        return self.state in ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED")

    @property
    def waits_for_jobs(self) -> bool:
        """Whether it waits for jobs before it, as far as slurmctld has looked."""
        return self.reason == "Dependency"

    @property
    def is_dead(self) -> bool:
        """Whether it waits for a job that has failed, or until a person releases it after a failed start."""
        return self.reason == _DEAD_REASON or self.reason.startswith("launch failed")


def queue(prefix: str) -> list[Task]:
    """Return the user's tasks that wait or run and whose name begins with `prefix`.

    Raises:
        SlurmError: squeue fails.
    """
    printed = _call("squeue", "--noheader", "--array", f"--format={_FORMAT}", f"--user={os.getuid()}")
    rows = (line.split("|", 4) for line in printed.splitlines() if line.strip())
    return [
        Task(int(array), int(index), state, reason, name)
        for array, index, state, reason, name in rows
        if name.startswith(prefix) and array.isdigit() and index.isdigit()
    ]


def num_slots(partition: str | None, cpus: int) -> int:
    """Return how many tasks with so many processors a partition can run at a time; None: the default one.

    0 where Slurm does not say so.
    """
    try:
        rows = map(str.split, _call("sinfo", "--noheader", "--format=%P %C").splitlines())
    except SlurmError:
        return 0  # sbatch says why; `--dry-run` needs no Slurm
    wanted = partition.split(",") if partition else []
    total = 0
    for name, processors in rows:
        if name.removesuffix("*") in wanted or (not wanted and name.endswith("*")):
            allocated, idle, _, _ = processors.split("/")
            total += int(allocated) + int(idle)
    return total // cpus


def submit(script: Path, indices: Sequence[int], dependencies: Sequence[str]) -> int:
    """Submit the script as an array of these indices; return its id.

    Raises:
        SlurmError: sbatch refuses it.
    """
    options = [f"--dependency={','.join(dependencies)}"] if dependencies else []
    printed = _call("sbatch", "--parsable", f"--array={format_indices(indices)}", *options, str(script))
    match = re.match(r"\d+", printed.strip())
    if match is None:
        raise SlurmError(f"sbatch names no job: {printed.strip()!r}; look at `squeue --me`, then run again")
    return int(match[0])


def cancel(tasks: Collection[str]) -> None:
    """Cancel tasks or arrays.

    Raises:
        SlurmError: scancel fails.
    """
    if tasks:
        _call("scancel", *tasks)


def format_indices(indices: Sequence[int]) -> str:
    """Return indices as Slurm writes them, such as 0-3,7."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _call(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        raise SlurmError(f"{program} is not installed here; run on a login node of the cluster")
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise SlurmError(
            f"{program} did not respond in {_TIMEOUT_SECONDS} s; run the same command again later"
        ) from error
    if done.returncode:
        raise SlurmError(
            f"{program} failed: {done.stderr.strip() or done.returncode}; jobs that were submitted stay. "
            "Correct the section `cluster` of the configuration, or run the same command again later"
        )
    return done.stdout
