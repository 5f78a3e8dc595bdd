"""What runs inside a job: `python -m slicewise.cluster.job WORKSPACE PLAN DIGEST GROUP INDEX`.

It ends with 0 when the output is in place, 75 when it was stopped and would resume, 3 when there is nothing
to do for a plan that was cancelled, and 1 or 2 when it failed.
"""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from slicewise.cluster.bundles import case_context, selected_cases
from slicewise.cluster.lease import AttemptWorkspace, CancelledError, Lease, acquire
from slicewise.cluster.plan import CPUS_VARIABLE, Job, PlanFolder, source_folder
from slicewise.cluster.source import check_source
from slicewise.config.schema import Config
from slicewise.core.activity import publish_progress
from slicewise.core.console import print_error, say, standard_streams
from slicewise.core.errors import SliceWiseError, WorkspaceError
from slicewise.core.files import read_json, write_json
from slicewise.core.hashing import HashCache
from slicewise.core.redact import redact
from slicewise.core.signals import handle_signals
from slicewise.data.cases import CaseFiles
from slicewise.data.preprocess import case_digest, preprocess_cases
from slicewise.data.store import SliceStore, entry_id
from slicewise.engine.plan import Decision, Request, Selection, plan
from slicewise.engine.receipt import describe_changes, join_reasons
from slicewise.engine.record import RunRecord, StepRecord, package_versions
from slicewise.engine.redirects import write_redirects
from slicewise.engine.runner import Runner
from slicewise.engine.step import Context, Step
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline
from slicewise.workflow.observers import make_observers
from slicewise.workflow.slices import slice_store

STOPPED: Final = 75
CANCELLED: Final = 3
_PROGRESS_SECONDS: Final = 5.0
"""Of a file on a shared disk, for each running job"""
_STAGED: Final = "slices"
_HASHES: Final = "hashes.json"


def main(argv: Sequence[str] | None = None) -> int:
    root, number, sealed, group, index = sys.argv[1:] if argv is None else argv
    folder = _open(root, int(number))
    with standard_streams():
        try:
            if folder.digest != sealed:
                raise WorkspaceError(
                    f"{folder.path} was changed since this job was submitted; it makes nothing"
                )
            (jobs,) = (each.jobs for each in folder.plan.groups if each.name == group)
            job = jobs[int(index)]
            with handle_signals():
                _run(folder, job)
        except KeyboardInterrupt:
            say("stopped; the next attempt resumes here", "warn")
            return STOPPED
        except CancelledError as error:
            say(str(error), "warn")
            return CANCELLED
        except SliceWiseError as error:
            print_error(str(error))
            return error.exit_code
    return 0


@lru_cache(maxsize=1)
def _open(root: str, number: int) -> PlanFolder:
    """Return a plan, which is read once by a worker that runs many of its jobs."""
    return PlanFolder(Workspace(Path(root)), number)


def _run(folder: PlanFolder, job: Job) -> None:
    """Make the output of a job, or what is left to do of it.

    Raises:
        SliceWiseError: it would be another output than the sealed one, or making it failed.
    """
    task = "_".join(filter(None, (os.environ.get(f"SLURM_ARRAY_{each}_ID") for each in ("JOB", "TASK"))))
    lease = acquire(folder, job, slurm=task)
    workspace, failure = AttemptWorkspace(lease), folder.failure(job)
    say(
        f"{job.name} of plan {folder.number}, token {lease.fence.number}, on {socket.gethostname()}", "header"
    )
    progress = folder.progress(job)
    progress.mkdir(parents=True, exist_ok=True)
    try:
        with publish_progress(progress, job.name, _PROGRESS_SECONDS):
            _finish_or_make(lease, workspace)
    except Exception as error:
        with suppress(OSError):  # the error itself says more
            write_json(failure, {"type": type(error).__name__, "message": redact(str(error))})
        raise
    failure.unlink(missing_ok=True)


def _finish_or_make(lease: Lease, workspace: AttemptWorkspace) -> None:
    folder, job = lease.folder, lease.job
    if lease.committed is None:
        check_source(source_folder(folder.workspace, folder.plan.source))
        _check_versions(folder)
        lease.adopt()
        (_make_bundle if job.cases else _make_output)(lease, workspace)
    elif job.cases:
        _move_entries(lease, workspace)
    else:
        workspace.finish(folder.plan.stored_step(job))
    lease.sweep(workspace)


def _check_versions(folder: PlanFolder) -> None:
    """Refuse other versions of Python or of a package that decides a result."""
    here, sealed = package_versions(), folder.plan.versions
    changed = [
        f"{name} {sealed.get(name)} -> {here.get(name)}"
        for name in {**sealed, **here}
        if here.get(name) != sealed.get(name)
    ]
    if changed:
        raise WorkspaceError(
            f"plan {folder.number} was sealed with other versions: {join_reasons(changed)}; install the "
            "sealed ones, or end the plan with `slicewise cancel` and run again"
        )


def job_config(folder: PlanFolder) -> Config:
    """Return the sealed configuration for the processors of the job."""
    return with_own_cpus(Config.model_validate(folder.plan.config))


def with_own_cpus(config: Config) -> Config:
    """Return the configuration with as many workers as the job has processors.

    Beside others on a machine it also has as many threads: a measurement of the best number would disturb.
    """
    own = os.environ.get(CPUS_VARIABLE, "")
    cpus = own or os.environ.get("SLURM_CPUS_PER_TASK", "")
    if not cpus.isdigit():
        return config
    runtime = config.runtime
    workers, threads = runtime.num_workers or int(cpus), runtime.num_threads or int(own or 0)
    runtime = runtime.model_copy(update={"num_workers": workers, "num_threads": threads})
    return config.model_copy(update={"runtime": runtime})


def _decide(
    folder: PlanFolder, job: Job, workspace: Workspace, config: Config, hashes: HashCache
) -> tuple[tuple[Step[Config], ...], Selection, dict[str, Decision[Config]]]:
    """Return steps, selection and decisions of a run of this job's step alone.

    Raises:
        WorkspaceError: the output would be another one than the sealed one.
    """
    steps, sealed = pipeline(config), folder.plan
    skipped = {name for name, request in sealed.requests.items() if request == Request.SKIP.value}
    requests = {step.name: Request.SKIP if step.name in skipped else Request.OUTSIDE for step in steps}
    requests[job.step] = Request(sealed.requests[job.step])
    selection = Selection(requests, f"the job {job.name}")
    decisions = {each.step.name: each for each in plan(steps, config, workspace, hashes, selection)}
    identity, wanted = decisions[job.step].identity, sealed.steps[job.step].identity
    if identity.fingerprint != wanted.fingerprint:
        changes = join_reasons(describe_changes(wanted, identity)) or "its identity changed"
        raise WorkspaceError(
            f"{job.name} must make {wanted.fingerprint[:12]}, and here it would make "
            f"{identity.fingerprint[:12]}: {changes}. Nothing was made; undo the change, or end the plan "
            "with `slicewise cancel` and run again"
        )
    return steps, selection, decisions


def _make_output(lease: Lease, workspace: AttemptWorkspace) -> None:
    """Run the step of a job as a local run does."""
    folder, job = lease.folder, lease.job
    config, hashes = job_config(folder), workspace.load_hashes()
    for path in (folder.path / "hashes").glob("*.json"):
        hashes.table.update(read_json(path)["hashes"])
        hashes.changed = True
    steps, selection, _ = _decide(folder, job, workspace, config, hashes)
    steps = steps[: 1 + [step.name for step in steps].index(job.step)]
    record = RunRecord(folder.record(job), folder.plan.header, {step.name: StepRecord() for step in steps})
    observers = make_observers(config, workspace)
    Runner(steps, config, workspace, hashes, record, lambda _: True, observers).execute(selection)
    if record.steps[job.step].status == "reused":
        lease.commit()
    write_redirects(workspace.root, next(step.redirects for step in steps if step.name == job.step))


@lru_cache(maxsize=1)
def _cases(root: str, number: int, step: str) -> tuple[Context[Config], dict[str, CaseFiles]]:
    """Return the context of the bundles of a plan and all its cases by key, once for a worker that stays.

    Data that change later do no harm: the entries of the store are named by the content of the files.
    """
    folder = _open(root, number)
    workspace, config = folder.workspace, job_config(folder)
    hashes = workspace.load_hashes()
    _, _, decisions = _decide(folder, Job(step, step), workspace, config, hashes)
    context = case_context(decisions, config, workspace, hashes)
    return context, {str(case.key): case for case in selected_cases(context)}


def _make_bundle(lease: Lease, workspace: AttemptWorkspace) -> None:
    """Slice the cases of a bundle in the folder of this attempt, commit, and move them into the store."""
    folder, job = lease.folder, lease.job
    context, by_key = _cases(str(workspace.root), folder.number, job.step)
    config, hashes, cases = context.config, context.hashes, [by_key[key] for key in job.cases]
    entries = [entry_id(case.key, case_digest(case, hashes), config.preprocessing) for case in cases]
    store, staged = slice_store(workspace), SliceStore(lease.partial() / _STAGED)
    staged.root.mkdir(parents=True, exist_ok=True)
    report = preprocess_cases(
        [case for case, entry in zip(cases, entries, strict=True) if entry not in store],
        staged,
        config.preprocessing,
        num_workers=config.runtime.num_workers,
        max_worker_memory_mib=config.runtime.max_worker_memory_mib,
        hash_cache=hashes,
    )
    known = {str(path.absolute()): hashes.row(path) for case in cases for path in case.files}
    for each in report.entries:
        for path in each.folder.iterdir():  # it keeps its inode and time where it moves to
            known[str(store.folder(each.entry) / path.name)] = hashes.row(path)
    write_json(lease.partial() / _HASHES, {"hashes": known})
    lease.commit()
    _move_entries(lease, workspace)


def _move_entries(lease: Lease, workspace: Workspace) -> None:
    """Move the committed entries of a bundle into the store; the last rename says that all have moved."""
    partial = lease.partial(lease.committed)
    if not (partial / _HASHES).is_file():
        return  # all have moved
    slice_store(workspace).adopt(SliceStore(partial / _STAGED))
    target = lease.folder.hashes(lease.job)
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # the attempt that committed is still alive, and has moved it
        (partial / _HASHES).rename(target)


if __name__ == "__main__":
    sys.exit(main())
