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
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
_POLL_SECONDS: Final = 0.5
_REGISTER_SECONDS: Final = 22.0
"""BatchStartTimeout and MessageTimeout: before that a task that has gone seems to be one that starts."""
_NODES: Final = 4
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


@dataclass(frozen=True)
class Row:
    """A line of squeue."""

    task: str
    index: str
    node: str
    state: str
    reason: str
    name: str

    @property
    def is_bundle(self) -> bool:
        return self.name.endswith(BUNDLES)


@dataclass
class Chaos:
    """One run, and what happens to it."""

    folder: Path
    args: argparse.Namespace
    slurm: Slurm
    rng: random.Random
    slot_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    done_to: Counter[str] = field(default_factory=Counter)

    @property
    def workspace(self) -> Path:
        return self.folder / "remote"

    @property
    def slots(self) -> int:
        """Tasks that run at a time."""
        return _NODES * int(self.args.cpus)

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
        return len(self.call_times())

    def call_times(self) -> list[float]:
        log = self.folder / "sbatch.log"
        return [float(line) for line in log.read_text().split()] if log.is_file() else []

    def count_slots(self, rows: Sequence[Row], seconds: float) -> None:
        """Add what the processors of the nodes did in the last seconds."""
        running = [row for row in rows if row.state == "RUNNING"]
        tasks = sum(row.is_bundle for row in running)
        others = min(len(running) - tasks, self.slots - tasks)
        waits = any(row.is_bundle and row.state == "PENDING" and row.reason != "BeginTime" for row in rows)
        idle = self.slots - tasks - others
        self.slot_seconds["tasks"] += tasks * seconds
        self.slot_seconds["other jobs"] += others * seconds
        self.slot_seconds["idle beside waiting tasks" if waits else "idle at the end"] += idle * seconds

    def rows(self) -> list[Row] | None:
        """Return the queue; None while slurmctld is away."""
        words = ("squeue", "--noheader", "--array", "--format=%F_%K|%K|%N|%T|%r|%j")
        done = subprocess.run(words, env=self.slurm.env, capture_output=True, text=True, check=False)
        return None if done.returncode else [Row(*line.split("|")) for line in done.stdout.splitlines()]

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
        """Disturb the bundles until all are done; kill slurmctld twice meanwhile.

        It returns before where nothing runs any more: slurmctld has forgotten what it knew since it last
        wrote its state.
        """
        folder = self.plan()
        assert folder is not None
        bundles = folder.plan.groups[0].jobs
        moments = {
            index: self.rng.uniform(2, 0.9 * len(bundles[index].cases) * self.args.seconds)
            for index in self.rng.sample(range(len(bundles)), round(self.args.share * len(bundles)))
        }
        kills = [len(bundles) // 3, 2 * len(bundles) // 3] if self.args.share else []
        started: dict[int, float] = {}
        left = {*range(len(bundles))}
        rows: Sequence[Row] = ()
        last = active = time.monotonic()
        while left and (now := time.monotonic()) - active < _IDLE_SECONDS:
            self.count_slots(rows, now - last)
            last = now
            if (read := self.rows()) is not None:
                rows = read
            if any(row.state == "RUNNING" or row.reason == "BeginTime" for row in rows):
                active = now
            for row in rows if read else ():
                if row.is_bundle and row.state == "RUNNING":
                    index = int(row.index)
                    started.setdefault(index, now)
                    if now - started[index] > moments.get(index, float("inf")):
                        del moments[index]
                        self.disturb(row.task, index, row.node)
            if kills and len(bundles) - len(left) >= kills[0]:
                kills.pop(0)
                threading.Thread(target=self.crash, args=(self.rng.uniform(0, 10),)).start()
            left = {index for index in left if not is_done(folder, bundles[index])}
            time.sleep(_POLL_SECONDS)
        self.count_slots(rows, time.monotonic() - last)

    def crash(self, after: float) -> None:
        """Kill slurmctld after so many seconds, and start it again as systemd would.

        What it did in its last five seconds it has not written. It believes that tasks run that have ended,
        and starts others again, upon which it closes their node and holds them. So then an administrator lets
        the nodes register and opens them, and the user gives the same command again.
        """
        time.sleep(after)
        self.slurm.kill_controller()
        time.sleep(1)
        self.slurm.start_controller()
        self.done_to["slurmctld killed"] += 1
        time.sleep(_REGISTER_SECONDS)
        self.slurm.run("scontrol", "reconfigure", check=False)
        closed = self.slurm.run("sinfo", "--noheader", "--Node", "--format=%N", "--states=drain", check=False)
        for node in {*closed.split()}:
            self.slurm.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        self.submit()

    def finish(self) -> None:
        """Wait until all is done, with a new submission where the queue has lost something."""
        folder = self.plan()
        assert folder is not None
        for _ in range(5):
            deadline = time.monotonic() + _IDLE_SECONDS
            while time.monotonic() < deadline:
                if all(is_done(folder, job) for job in folder.plan.jobs):
                    return
                time.sleep(_POLL_SECONDS)
            self.submit()


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
    counted.write_text(f'#!/bin/sh\ndate +%s.%N >> {folder / "sbatch.log"}\nexec /usr/bin/sbatch "$@"\n')
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
    with _folder(args.folder) as folder:
        prepare(folder, args.cases)
        env = {**os.environ, **environment(folder, 0)}
        subprocess.run(run_words(folder, folder / "local"), env=env, check=True, stdout=subprocess.DEVNULL)
        (folder / "cases.log").unlink()
        (folder / "slurm").mkdir()
        with running_slurm(folder / "slurm", _NODES, cpus=args.cpus) as slurm:
            chaos = Chaos(folder, args, slurm, random.Random(args.seed))
            figures = _measure(chaos)
    print(json.dumps(figures, indent=2))
    return 0 if figures["same bits"] and figures["most commits of a job"] == 1 else 1


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    if path is not None:
        path.mkdir(parents=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="sw-") as name:
        yield Path(name)


def _measure(chaos: Chaos) -> dict[str, Any]:
    args, folder = chaos.args, chaos.folder
    if args.share:
        chaos.submit(kill_after=1)
        chaos.submit(kill_after=2)
    chaos.submit()
    plan = chaos.plan()
    assert plan is not None
    bundles = plan.plan.groups[0].jobs
    for _ in range(5):
        chaos.live()
        if all(is_done(plan, job) for job in bundles):
            break
        chaos.submit()
    chaos.finish()
    reads = Counter((folder / "cases.log").read_text().splitlines())
    ended = max(plan.hashes(job).stat().st_mtime for job in bundles)
    own, wall = len(reads) * args.seconds, ended - chaos.call_times()[0]
    unseen = wall * chaos.slots - sum(chaos.slot_seconds.values())
    parts = {**chaos.slot_seconds, "before the first look": unseen}
    parts["tasks, without the cases"] = parts.pop("tasks") - own
    return {
        "cases": len(reads),
        "tasks": len(bundles),
        "disturbed": dict(chaos.done_to),
        "same bits": outputs(folder / "local") == outputs(chaos.workspace),
        "most commits of a job": max(commits(plan)),
        "cases read again": sum(reads.values()) - len(reads) - 2,  # two are timed at the login node
        "sbatch calls": chaos.calls(),
        "own seconds of the cases": own,
        "wall seconds": round(wall, 1),
        "overhead": round(wall * chaos.slots / own - 1, 4),
        "its parts": {name: round(seconds / own, 4) for name, seconds in parts.items()},
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.9, help="that a case takes")
    parser.add_argument("--bundle", type=float, default=60.0, help="cluster.bundle_seconds")
    parser.add_argument("--cpus", type=int, default=2, help="of each of the four nodes")
    parser.add_argument("--share", type=float, default=0.2, help="of the tasks that are disturbed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="for everything, kept; temporary by default"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
