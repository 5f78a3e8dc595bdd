"""Who may write the output of a job: a fencing token, a folder for work in progress of its own, the commit.

Every attempt at a job has a folder of its own. It begins with the work of the attempt before it, which it
ends and whose folder it renames: what that one still writes, if it wakes up, goes nowhere. When the work is
complete, the attempt commits, which only one can, and moves it into place. If it is killed in between, the
next attempt finds the commit and moves the work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicewise.cluster.plan import BUNDLES, Job, PlanFolder, newest_plan
from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.engine.fence import Fence, FencedError, adopt, end_of, numbers
from slicewise.engine.receipt import Receipt
from slicewise.engine.workspace import HasHomes, StoredOutput, Workspace


class CancelledError(FencedError):
    """The plan was cancelled, or replaced by a later one."""


@dataclass(frozen=True)
class Lease:
    """The right of one attempt to write the output of a job.

    Attributes:
        committed: number of an earlier attempt that has committed, and whose work may still have to be moved.
    """

    folder: PlanFolder
    job: Job
    fence: Fence
    committed: int | None

    @property
    def key(self) -> str:
        return self.job.key(self.folder.plan.fingerprint(self.job))

    def partial(self, number: int | None = None) -> Path:
        """Return the folder for the work of an attempt, of this one without a number."""
        return _partials(self.folder, self.job) / f"{self.key}.{number or self.fence.number}"

    def commit(self) -> None:
        """Say that the work is complete; see `Fence.commit`."""
        self.fence.commit(plan=self.folder.number)

    def adopt(self) -> None:
        """Take over the work of the last attempt, of this plan or an earlier one, or of a local run."""
        adopt(_partials(self.folder, self.job), self.key, self.fence)

    def sweep(self, workspace: Workspace) -> None:
        """Remove what earlier attempts have written since they were given up."""
        for path in _partials(self.folder, self.job).glob(f"{self.key}.*"):
            workspace.discard(path)


def _partials(folder: PlanFolder, job: Job) -> Path:
    return folder.workspace.state / "partial" / (BUNDLES if job.cases else job.step)


def leases_of(folder: PlanFolder, job: Job) -> Path:
    """Return the folder of the fencing tokens of a job; other plans that make the same output share it."""
    name = BUNDLES if job.cases else job.step
    return folder.workspace.state / "leases" / name / job.key(folder.plan.fingerprint(job))


def acquire(folder: PlanFolder, job: Job, **note: Any) -> Lease:
    """Begin an attempt: end all earlier ones, or find that one of them has committed.

    Raises:
        CancelledError: the plan was cancelled, or a later plan has been sealed.
    """
    _require_current(folder)
    fence = Fence.claim(leases_of(folder, job), plan=folder.number, **note)
    for claim in fence.earlier().values():
        if claim["plan"] > folder.number or (claim["plan"] == folder.number and claim.get("cancelled")):
            raise _cancelled(folder)
    ends = fence.end_earlier()
    committed = next((number for number, end in ends.items() if _is_commit(end, folder)), None)
    return Lease(folder, job, fence, committed)


def cancel_job(folder: PlanFolder, job: Job) -> None:
    """End all attempts at a job; none can commit, or begin, from now on. The next run continues its work."""
    fence = Fence.claim(leases_of(folder, job), plan=folder.number, cancelled=True)
    fence.end_earlier()
    lease = Lease(folder, job, fence, None)
    lease.adopt()
    plain = _partials(folder, job) / lease.key
    if lease.partial().is_dir() and not plain.exists():
        lease.partial().rename(plain)


def is_committed(folder: PlanFolder, job: Job) -> bool:
    """Whether an attempt of this plan has committed."""
    leases = leases_of(folder, job)
    ends = (end_of(leases, number) for number in numbers(leases))
    return any(end and _is_commit(end, folder) for end in ends)


def _is_commit(end: Mapping[str, Any], folder: PlanFolder) -> bool:
    return end["state"] == "committed" and end.get("plan") == folder.number


def is_done(folder: PlanFolder, job: Job) -> bool:
    """Whether the output of a job is in place: its receipt decides, and no word of a queue."""
    if job.cases:
        return folder.hashes(job).is_file()
    if not is_committed(folder, job):
        return False
    return folder.workspace.find(folder.plan.stored_step(job), folder.plan.fingerprint(job)) is not None


def active_plan(workspace: Workspace) -> PlanFolder | None:
    """Return the plan whose jobs may work in the workspace, or None. One whose jobs are all done is ended.

    Raises:
        WorkspaceError: the plan was changed.
    """
    folder = newest_plan(workspace)
    if folder is None or folder.has_ended:
        return None
    if all(is_done(folder, job) for job in folder.plan.jobs):
        folder.end()
        return None
    return folder


def refuse_beside_jobs(workspace: Workspace) -> None:
    """Refuse to work in a workspace in which jobs work.

    Raises:
        UsageError: there is a plan that has not ended.
    """
    if folder := active_plan(workspace):
        raise UsageError(
            f"the jobs of plan {folder.number} work in {workspace.root}; wait for them (`slicewise status "
            "--watch`), or end them with `slicewise cancel`"
        )


class AttemptWorkspace(Workspace):
    """The workspace of an attempt at a job: work in progress of its own, and a commit before it moves."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease.folder.workspace.root, lease.fence)
        self._lease = lease

    def partial(self, step: str, fingerprint: str) -> Path:
        if step == self._lease.job.step:
            return self._lease.partial()
        return super().partial(step, fingerprint)

    def shelve(self, step: HasHomes, receipt: Receipt, partial: Path) -> Path:
        for slot in receipt.files:
            receipt.write(partial / slot)
        self._lease.commit()
        return super().shelve(step, receipt, partial)

    def finish(self, step: HasHomes) -> StoredOutput:
        """Move the work that an earlier attempt has committed, as far as that one did not.

        Raises:
            WorkspaceError: the work is gone.
        """
        partial = self._lease.partial(self._lease.committed)
        receipts = [receipt for slot in step.homes if (receipt := Receipt.read(partial / slot))]
        if receipts:
            super().shelve(step, receipts[0], partial)
        output = self.find(step, self._lease.folder.plan.fingerprint(self._lease.job))
        if output is None:
            raise WorkspaceError(
                f"the output of {step.name} was committed and is gone; end the plan with `slicewise cancel`, "
                "then run again"
            )
        self.install(step, output)
        return output


def _require_current(folder: PlanFolder) -> None:
    newest = newest_plan(folder.workspace)
    if newest is None or newest.number != folder.number or folder.has_ended:
        raise _cancelled(folder)


def _cancelled(folder: PlanFolder) -> CancelledError:
    return CancelledError(
        f"plan {folder.number} of {folder.workspace.root} was cancelled, has ended, or was replaced by a "
        "later one; this job makes nothing"
    )
