"""How far the jobs of a plan are: what is finished, by receipts, and what waits or runs, by the queue."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from slicewise.cluster import slurm
from slicewise.cluster.lease import is_done
from slicewise.cluster.plan import Group, Job, PlanFolder
from slicewise.cluster.source import source_digest
from slicewise.core.activity import PROGRESS_NAME, read_progress
from slicewise.core.errors import SliceWiseError
from slicewise.core.files import read_json
from slicewise.engine.lock import lock_holder

State = Literal["done", "running", "waiting", "failed", "missing"]
"""`missing`: neither finished nor in the queue, e.g. because a job before it failed"""


_USUAL_REASONS: Final = {"None", "Dependency", "Priority", "Resources", "BeginTime"}
"""Why a task waits that will run in its turn"""


@dataclass
class GroupProgress:
    """The jobs of a group by their state, and what the running and the failed ones say."""

    name: str
    jobs: dict[State, list[Job]] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)

    def count(self, *states: State) -> int:
        return sum(len(self.jobs.get(state, ())) for state in states)

    def __str__(self) -> str:
        total = sum(map(len, self.jobs.values()))
        parts = [f"{len(jobs)} {state}" for state, jobs in self.jobs.items() if jobs and state != "done"]
        return ", ".join([f"{self.count('done')} of {total} done", *parts])


@dataclass(frozen=True)
class PlanProgress:
    """The groups of a plan; `fault` says why the queue could not be read."""

    groups: tuple[GroupProgress, ...]
    fault: str = ""

    @property
    def is_complete(self) -> bool:
        return all(group.count("running", "waiting", "failed", "missing") == 0 for group in self.groups)

    @property
    def is_active(self) -> bool:
        """Whether something waits or runs, as far as the queue can be read."""
        return bool(self.fault) or any(group.count("running", "waiting") for group in self.groups)


def read_plan_progress(folder: PlanFolder) -> PlanProgress:
    """Return the state of every job."""
    groups, fault = folder.plan.groups, ""
    tasks: list[slurm.Task] = []
    try:
        tasks = [*_held(folder)] if folder.plan.on == "ray" else slurm.queue(folder.slurm_name())
    except slurm.SlurmError as error:
        fault = str(error)
    return PlanProgress(tuple(_group_progress(folder, group, tasks) for group in groups), fault)


def _held(folder: PlanFolder) -> Iterator[slurm.Task]:
    """Yield what waits or runs for the command that runs the jobs, as long as there is one."""
    if lock_holder(folder.workspace.state / "lock") is None:
        return
    for group in folder.plan.groups:
        for index, job in enumerate(group.jobs):
            is_running = (folder.progress(job) / PROGRESS_NAME).is_file()
            yield slurm.Task(
                0, index, "RUNNING" if is_running else "PENDING", "None", folder.slurm_name(group.name)
            )


def _group_progress(folder: PlanFolder, group: Group, tasks: list[slurm.Task]) -> GroupProgress:
    name = folder.slurm_name(group.name)
    queued = {task.index: task for task in tasks if task.name == name and not task.is_dead}
    progress = GroupProgress(group.name)
    for index, job in enumerate(group.jobs):
        state = _state(folder, job, queued.get(index))
        progress.jobs.setdefault(state, []).append(job)
        if detail := _detail(folder, job, state):
            progress.details.append(detail)
    reasons = {task.reason for task in queued.values() if task.state == "PENDING"} - _USUAL_REASONS
    progress.details += [f"Slurm says of waiting tasks: {reason}" for reason in sorted(reasons)]
    return progress


def _state(folder: PlanFolder, job: Job, task: slurm.Task | None) -> State:
    if is_done(folder, job):
        return "done"
    if task is not None:
        return "running" if task.is_running else "waiting"
    return "failed" if folder.failure(job).is_file() else "missing"


def _detail(folder: PlanFolder, job: Job, state: State) -> str:
    """Return how far a running job is, or why one failed."""
    if state == "failed":
        with suppress(OSError, SliceWiseError, KeyError, TypeError):
            return f"{job.name}: {read_json(folder.failure(job))['message']}"
    progress = read_progress(folder.progress(job)) if state == "running" else None
    if progress is None or progress["job"] is None:
        return ""
    bar = progress["job"]
    total = f" of {bar['total']:,.0f}" if bar["total"] else ""
    return f"{job.name}: {bar['desc']} {bar['done']:,.0f}{total} {bar['unit']} {bar['note']}".rstrip()


def summarise(progress: PlanProgress) -> str:
    """Return one line: jobs that are done, and the groups of which some run, failed or are missing."""
    total = sum(group.count("done", "running", "waiting", "failed", "missing") for group in progress.groups)
    parts = [f"{sum(group.count('done') for group in progress.groups)} of {total} jobs done"]
    states: tuple[State, ...] = ("running", "failed", "missing")
    for state in states:
        names = [f"{group.name} {group.count(state)}" for group in progress.groups if group.count(state)]
        parts += [f"{state}: {', '.join(names)}"] if names else []
    return "; ".join([*parts, *([progress.fault] if progress.fault else [])])


def describe(folder: PlanFolder, progress: PlanProgress) -> Iterator[str]:
    """Yield the lines of the screen."""
    yield f"{folder.plan.on.capitalize()} plan {folder.number}: {folder.plan.header.get('command', '')}"
    longest = max(len(group.name) for group in progress.groups)
    for group in progress.groups:
        yield f"  {group.name:<{longest}} {group}"
        yield from (f"    {detail}" for detail in group.details)
    if progress.fault:
        yield f"  the queue could not be read: {progress.fault}"


def remarks(folder: PlanFolder) -> Iterator[str]:
    """Yield what the jobs do not follow: edits since the plan was sealed."""
    if source_digest()[:16] != folder.plan.source:
        yield (
            "the code or configs/ changed since the plan was sealed; its jobs run the sealed copy. "
            "`slicewise cancel`, then a new run, uses the changes"
        )
