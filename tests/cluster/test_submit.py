"""What is submitted, and what it waits for. Slurm itself is in test_slurm.py."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cluster.conftest import Seal, Sealed

from slicewise.cluster import slurm
from slicewise.cluster.plan import BUNDLES, Need
from slicewise.cluster.script import render_script
from slicewise.cluster.seal import _make_groups
from slicewise.cluster.slurm import Task, format_indices
from slicewise.cluster.submit import _dependencies, submit
from slicewise.config.compose import compose
from slicewise.steps import pipeline


class Queue:
    """Takes jobs as Slurm does, and runs none."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.calls: list[tuple[str, list[int], list[str]]] = []

    def queue(self, prefix: str) -> list[Task]:
        return [task for task in self.tasks if task.name.startswith(prefix)]

    def submit(self, script: Path, indices: Sequence[int], dependencies: Sequence[str]) -> int:
        number = 100 + len(self.calls)
        self.calls.append((script.stem, [*indices], [*dependencies]))
        name = next(
            line.partition("=")[2] for line in script.read_text().splitlines() if "--job-name" in line
        )
        reason = "Dependency" if dependencies else "Resources"
        self.tasks += [Task(number, index, "PENDING", reason, name) for index in indices]
        return number

    def cancel(self, ids: Sequence[str]) -> None:
        self.tasks = [task for task in self.tasks if task.id not in ids and str(task.array) not in ids]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue()
    for name in ("queue", "submit", "cancel"):
        monkeypatch.setattr(slurm, name, getattr(made, name))
    return made


@pytest.fixture
def sealed(seal_plan: Seal, tmp_path: Path) -> Sealed:
    return seal_plan(tmp_path / "work")


def test_each_group_waits_for_what_it_needs_and_nothing_is_submitted_twice(
    sealed: Sealed, queue: Queue
) -> None:
    cluster = compose([]).cluster
    submit(sealed.folder, cluster)
    assert queue.calls == [
        (BUNDLES, [0, 1], []),
        ("preprocess", [0], ["afterok:100"]),
        ("split", [0], ["afterok:101"]),
        ("train.train", [0], ["afterok:101", "afterok:102"]),
    ]
    assert submit(sealed.folder, cluster) == {}
    assert len(queue.calls) == 4


def test_what_was_lost_is_submitted_again_and_what_waits_for_it_too(sealed: Sealed, queue: Queue) -> None:
    cluster = compose([]).cluster
    submit(sealed.folder, cluster)
    queue.tasks = [task for task in queue.tasks if task.id != "100_1"]
    assert submit(sealed.folder, cluster) == {BUNDLES: 1, "preprocess": 1, "split": 1, "train.train": 1}
    assert queue.calls[4:6] == [(BUNDLES, [1], []), ("preprocess", [0], ["afterok:100", "afterok:104"])]


def test_what_waits_for_jobs_that_are_in_no_queue_is_submitted_again(sealed: Sealed, queue: Queue) -> None:
    cluster = compose([]).cluster
    submit(sealed.folder, cluster)
    for index in (0, 1):
        assert sealed.run(BUNDLES, index).returncode == 0
    queue.tasks = [task for task in queue.tasks if task.array != 100]
    assert submit(sealed.folder, cluster) == {"preprocess": 1, "split": 1, "train.train": 1}
    assert queue.calls[4] == ("preprocess", [0], [])


def test_what_waits_for_jobs_that_are_done_and_that_slurm_believes_to_run_is_submitted_again(
    sealed: Sealed, queue: Queue
) -> None:
    cluster = compose([]).cluster
    submit(sealed.folder, cluster)
    queue.tasks = [replace(task, state="RUNNING") if task.array == 100 else task for task in queue.tasks]
    assert submit(sealed.folder, cluster) == {}
    for index in (0, 1):
        assert sealed.run(BUNDLES, index).returncode == 0
    assert submit(sealed.folder, cluster) == {"preprocess": 1, "split": 1, "train.train": 1}
    assert queue.calls[4] == ("preprocess", [0], [])


@pytest.mark.parametrize("reason", ["DependencyNeverSatisfied", "launch failed requeued held"])
def test_what_will_never_start_is_submitted_again(sealed: Sealed, queue: Queue, reason: str) -> None:
    cluster = compose([]).cluster
    submit(sealed.folder, cluster)
    queue.tasks = [replace(task, reason=reason) if task.id == "103_0" else task for task in queue.tasks]
    assert submit(sealed.folder, cluster) == {"train.train": 1}
    assert [task.array for task in queue.tasks] == [100, 100, 101, 102, 104]


def test_a_fold_waits_for_its_own_stage_and_not_for_the_others() -> None:
    steps = [step for step in pipeline(compose(["split.folds=3"])) if step.homes and step.name != "download"]
    groups = {group.name: group for group in _make_groups(steps, [("a",)])}
    assert [*groups] == [
        *(BUNDLES, "preprocess", "split", "train.seg_warmup", "train.cls_head", "train.joint", "evaluate"),
        "cross_validation",
    ]
    joint = groups["train.joint"]
    assert [job.name for job in joint.jobs] == [f"fold{fold}.train.joint" for fold in (1, 2, 3)]
    assert Need("train.cls_head", each=True) in joint.after
    assert groups["cross_validation"].after == (Need("evaluate", each=False),)
    assert groups["preprocess"].after == (Need(BUNDLES, each=False),)
    arrays = {name: {number: {0, 1, 2}} for number, name in enumerate(groups, 1)}
    assert "aftercorr:5" in _dependencies(joint, [0, 1, 2], arrays)
    assert "afterok:5" in _dependencies(joint, [1], arrays)


def test_the_script_asks_for_what_is_set(sealed: Sealed, tmp_path: Path) -> None:
    words = (
        "cluster.partition=cpu", "cluster.account=neuro", "cluster.modules=[cuda/12.4,gcc]",
        "cluster.container=apptainer exec --nv x.sif", "cluster.python=python3",
        "cluster.options=['--qos=long']", "cluster.train.partition=gpu", "cluster.train.gpus=2",
    )  # fmt: skip
    cluster = compose(words).cluster
    script = render_script(sealed.folder, sealed.group("train.train"), tmp_path, cluster, "d")
    for line in ("partition=gpu", "account=neuro", "gres=gpu:2", "qos=long", "mem=8192M", "cpus-per-task=4"):
        assert f"\n#SBATCH --{line}\n" in script
    assert "\nmodule load cuda/12.4 gcc\n" in script
    assert "\n  apptainer exec --nv x.sif python3 -P -m slicewise.cluster.job " in script
    other = render_script(sealed.folder, sealed.group("split"), tmp_path, compose([]).cluster, "d")
    assert not any(word in other for word in ("--partition", "--account", "--gres", "module load"))


def test_indices_are_written_as_slurm_reads_them() -> None:
    assert format_indices([0]) == "0"
    assert format_indices([3, 0, 1, 2, 7, 9, 10]) == "0-3,7,9-10"
