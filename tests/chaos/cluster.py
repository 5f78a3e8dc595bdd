"""`python -m tests.chaos.cluster`: many cases on four nodes of Slurm, a fifth of the tasks disturbed.

They are killed, requeued or preempted at random; slurmctld is killed twice, and so is the command that
submits. The result is compared with a run on one machine. Needs Slurm and root.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.extension.test_source import draw_set
from tests.fixtures.slurm import Slurm, running_slurm, why_not

from slicewise.cluster.lease import is_done, leases_of
from slicewise.cluster.plan import BUNDLES, PlanFolder, newest_plan
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.engine.fence import end_of, numbers
from slicewise.engine.workspace import Workspace

ROOT: Final = Path(__file__).resolve().parents[2]
_IDLE_SECONDS: Final = 20
_KINDS: Final = ("kill", "requeue", "preempt")
_SOURCE: Final = '''\
import os, time
from source import MaskPairs, MaskPairsSettings

class SlowSettings(MaskPairsSettings):
    """Pictures with masks that take a while (`slow_pairs`)."""

class Slow(MaskPairs):
    """Each picture takes as long as the environment says, and is logged."""

    Settings = SlowSettings

    @classmethod
    def read(cls, case):
        time.sleep(float(os.environ["CASE_SECONDS"]))
        with open(os.environ["CASE_LOG"], "a") as log:
            log.write(f"{case.key}\\n")
        return super().read(case)
'''


@dataclass
class Chaos:
    """One run, and what happens to it."""

    folder: Path
    args: argparse.Namespace
    slurm: Slurm
    rng: random.Random
    node_seconds: float = 0.0
    done_to: Counter[str] = field(default_factory=Counter)

    @property
    def workspace(self) -> Path:
        return self.folder / "remote"

    def plan(self) -> PlanFolder | None:
        return newest_plan(Workspace(self.workspace))

    def command(self) -> list[str]:
        return [*run_words(self.folder, self.workspace), "--on", "slurm"]

    def submit(self, kill_after: int | None = None) -> None:
        """Submit what is missing; kill the command once it has submitted so many groups."""
        env = {**self.slurm.env, **environment(self.folder, self.args.seconds)}
        env["PATH"] = f"{self.folder / 'counted'}:{self.slurm.env['PATH']}"
        with subprocess.Popen(self.command(), env=env, stdout=subprocess.DEVNULL) as running:
            while kill_after is not None and running.poll() is None:
                if self.calls() >= kill_after:
                    running.kill()
                    break
                time.sleep(0.01)

    def calls(self) -> int:
        """Return the number of calls of sbatch so far."""
        log = self.folder / "sbatch.log"
        return len(log.read_text().splitlines()) if log.is_file() else 0

    def tasks(self) -> list[tuple[str, int, str]]:
        """Return (id, index, node) of the running tasks of bundles; none while slurmctld is away."""
        text = self.slurm.run(
            "squeue", "--noheader", "--array", "--states=RUNNING", "--format=%F_%K|%K|%N|%j", check=False
        )
        rows = (line.split("|") for line in text.splitlines())
        return [(task, int(index), node) for task, index, node, name in rows if name.endswith(BUNDLES)]

    def disturb(self, task: str, index: int, node: str) -> None:
        kind = _KINDS[self.rng.randrange(len(_KINDS))]
        folder = self.plan()
        assert folder is not None
        if kind == "requeue":
            self.slurm.run("scontrol", "requeue", task, check=False)
        elif kind == "preempt":
            words = ("--partition=urgent", f"--nodelist={node}", "--output=/dev/null", "--wrap=sleep 1")
            self.slurm.run("/usr/bin/sbatch", *words, check=False)
        else:
            leases = leases_of(folder, folder.plan.groups[0].jobs[index])
            with suppress(WorkspaceError, OSError, ValueError):
                claim = read_json(leases / f"{max(numbers(leases))}.claim")
                os.kill(claim["pid"], signal.SIGKILL)
        self.done_to[kind] += 1

    def live(self) -> None:
        """Disturb the tasks until none is left; kill slurmctld twice meanwhile."""
        folder = self.plan()
        assert folder is not None
        number = len(folder.plan.groups[0].jobs)
        waiting = {
            index: self.rng.uniform(2, 0.8 * self.args.bundle)
            for index in self.rng.sample(range(number), round(self.args.share * number))
        }
        seen: dict[int, float] = {}
        kills, last, idle_since = [number // 3, 2 * number // 3], time.monotonic(), time.monotonic()
        while self.slurm.run("squeue", "--noheader", check=False) or "slurmctld" not in self.slurm.processes:
            time.sleep(0.4)
            running, now = self.tasks(), time.monotonic()
            self.node_seconds += len(running) * (now - last)
            last = now
            idle_since = (
                now if self.slurm.run("squeue", "--noheader", "--states=R", check=False) else idle_since
            )
            if now - idle_since > _IDLE_SECONDS:
                return  # slurmctld has forgotten what it knew since it last wrote its state
            for task, index, node in running:
                seen.setdefault(index, now)
                if now - seen[index] > waiting.get(index, float("inf")):
                    del waiting[index]
                    self.disturb(task, index, node)
            if kills and sum(is_done(folder, job) for job in folder.plan.groups[0].jobs) >= kills[0]:
                kills.pop(0)
                self.slurm.kill_controller()
                time.sleep(1)
                self.slurm.start_controller()
                self.done_to["slurmctld killed"] += 1
                time.sleep(1)


def run_words(folder: Path, workspace: Path, *words: str) -> list[str]:
    keys = ["data=lgg", "data.name=slow", "data.sources.volumes=null", "data.sources.slow.kind=slow_pairs"]
    keys += [f"data.sources.slow.path={folder / 'set'}", "preprocessing.image_size=64", "split.seed=1"]
    keys += ["stages.joint.sources.slow=1", "scale.fraction=1", "cluster.data.memory_mib=0"]
    words = (f"cluster.bundle_seconds={os.environ.get('BUNDLE_SECONDS', '60')}", *words)
    command = [sys.executable, "-m", "slicewise", "run", "--workspace", str(workspace), "--no-input"]
    return [*command, "--until", "preprocess", *keys, *words]


def environment(folder: Path, seconds: float) -> dict[str, str]:
    """Return the environment in which the slow source is installed."""
    path = os.pathsep.join((str(folder / "site"), str(ROOT / "src")))
    return {"PYTHONPATH": path, "CASE_SECONDS": str(seconds), "CASE_LOG": str(folder / "cases.log")}


def prepare(folder: Path, cases: int) -> None:
    """Write the pictures, the slow source, and a sbatch that counts its calls."""
    draw_set(folder / "set", cases + 1)
    info = folder / "site" / "slow-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[slicewise.sources]\nslow_pairs = slow:Slow\n")
    source = (
        (ROOT / "tests/extension/source.py")
        .read_text()
        .replace('"mask_pairs", ("flair"', '"slow_pairs", ("flair"')
    )
    (folder / "site" / "source.py").write_text(source)
    (folder / "site" / "slow.py").write_text(_SOURCE)
    counted = folder / "counted" / "sbatch"
    counted.parent.mkdir()
    counted.write_text(f'#!/bin/sh\necho x >> {folder / "sbatch.log"}\nexec /usr/bin/sbatch "$@"\n')
    counted.chmod(0o755)


def outputs(workspace: Path) -> dict[str, bytes]:
    paths = [*(workspace / "data/slices").rglob("*"), *(workspace / "data/processed").glob("[!.]*")]
    return {path.relative_to(workspace).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def commits(folder: PlanFolder) -> Iterator[int]:
    """Yield how often each job was committed."""
    for job in folder.plan.jobs:
        leases = leases_of(folder, job)
        ends = (end_of(leases, number) for number in numbers(leases))
        yield sum(bool(end and end["state"] == "committed") for end in ends)


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if the disturbed run has the bits of the other one, and no task was done twice."""
    args = _parse(argv)
    os.environ["BUNDLE_SECONDS"] = str(args.bundle)
    if reason := why_not():
        print(reason)
        return 1
    with tempfile.TemporaryDirectory(prefix="sw-", dir=args.folder) as name:
        folder = Path(name)
        prepare(folder, args.cases)
        env = {**os.environ, **environment(folder, 0)}
        subprocess.run(run_words(folder, folder / "local"), env=env, check=True, stdout=subprocess.DEVNULL)
        (folder / "cases.log").unlink()
        (folder / "slurm").mkdir()
        with running_slurm(folder / "slurm", num_nodes=4, cpus=args.cpus) as slurm:
            chaos = Chaos(folder, args, slurm, random.Random(args.seed))
            figures = _measure(chaos)
    print(json.dumps(figures, indent=2))
    return 0 if figures["same bits"] and figures["most commits of a job"] == 1 else 1


def _measure(chaos: Chaos) -> dict[str, Any]:
    args, folder = chaos.args, chaos.folder
    chaos.submit(kill_after=1)
    started = time.monotonic()
    chaos.submit(kill_after=2)
    chaos.submit()
    plan = chaos.plan()
    assert plan is not None
    for _ in range(5):
        chaos.live()
        if all(is_done(plan, job) for job in plan.plan.jobs):
            break
        chaos.submit()
    wall = time.monotonic() - started
    reads = Counter((folder / "cases.log").read_text().splitlines())
    own = len(reads) * args.seconds
    return {
        "cases": len(reads),
        "tasks": len(plan.plan.groups[0].jobs),
        "disturbed": dict(chaos.done_to),
        "same bits": outputs(folder / "local") == outputs(chaos.workspace),
        "most commits of a job": max(commits(plan)),
        "cases read again": sum(reads.values()) - len(reads) - 2,  # two are timed at the login node
        "sbatch calls": chaos.calls(),
        "own seconds of the cases": own,
        "seconds of tasks on nodes": round(chaos.node_seconds, 1),
        "overhead": round(chaos.node_seconds / own - 1, 4),
        "wall seconds": round(wall, 1),
        "ideal wall seconds": round(own / (4 * args.cpus), 1),
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.9, help="that a case takes")
    parser.add_argument("--bundle", type=float, default=60.0, help="cluster.bundle_seconds")
    parser.add_argument("--cpus", type=int, default=2, help="of each of the four nodes")
    parser.add_argument("--share", type=float, default=0.2, help="of the tasks that are disturbed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="for everything; temporary by default")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
