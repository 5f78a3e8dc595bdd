"""Submit what is missing of a sealed plan, and nothing twice; cancel it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from slicewise.cluster import slurm
from slicewise.cluster.lease import cancel_job, is_done
from slicewise.cluster.plan import Group, PlanFolder, source_folder
from slicewise.cluster.script import render_script
from slicewise.config.schema.cluster import Cluster
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import write_text


def submit(folder: PlanFolder, cluster: Cluster) -> dict[str, int]:
    """Submit every job that is neither finished nor in the queue; return {group: number of its new tasks}.

    A task is submitted again if it waits for jobs that are finished or in no queue, as after a crash of
    slurmctld: that one may have missed their end, and believe for minutes that they run.
    They get the resources of today's settings: those of the sealed ones may be what was wrong.

    Asked again after a crash in its midst it finds what was submitted by the names in the queue.

    Raises:
        SlurmError: Slurm does not respond, or refuses a job.
        FencedError: another process has taken the workspace over.
    """
    plan, source = folder.plan, source_folder(folder.workspace, folder.plan.source)
    folder.logs.mkdir(parents=True, exist_ok=True)
    tasks = slurm.queue(folder.slurm_name())
    submitted: dict[str, list[int]] = {}
    arrays: dict[str, dict[int, set[int]]] = {}
    for group in plan.groups:
        own = [task for task in tasks if task.name == folder.slurm_name(group.name)]
        done = {i for i, job in enumerate(group.jobs) if is_done(folder, job)}
        again = any(need.group in submitted for need in group.after)
        over = not any(arrays[need.group] for need in group.after)
        stale = [task for task in own if task.is_dead or (again and not task.is_running)]
        stale += [task for task in own if over and task.waits_for_jobs and task not in stale]
        slurm.cancel([task.id for task in stale])
        live = [task for task in own if task not in stale]
        arrays[group.name] = _by_array(live) if len(done) < len(group.jobs) else {}
        missing = sorted({*range(len(group.jobs))} - done - {task.index for task in live})
        if not missing:
            continue
        script = folder.path / "scripts" / f"{group.name}.sh"
        write_text(script, render_script(folder, group, source, cluster, folder.digest))
        if folder.workspace.fence is not None:
            folder.workspace.fence.require()
        number = slurm.submit(script, missing, _dependencies(group, missing, arrays))
        submitted[group.name] = missing
        arrays[group.name].setdefault(number, set()).update(missing)
    return {name: len(indices) for name, indices in submitted.items()}


def _by_array(tasks: Sequence[slurm.Task]) -> dict[int, set[int]]:
    arrays: dict[int, set[int]] = {}
    for task in tasks:
        arrays.setdefault(task.array, set()).add(task.index)
    return arrays


def _dependencies(
    group: Group, indices: Sequence[int], arrays: Mapping[str, Mapping[int, set[int]]]
) -> list[str]:
    """Return what the tasks of a group wait for; what is finished is in no queue and needs no wait."""
    waits = []
    for need in group.after:
        for number, others in arrays[need.group].items():
            # A task that waits for the one of its index waits for ever where there is none.
            each = need.each and len(arrays[need.group]) == 1 and others == {*indices}
            waits.append(f"{'aftercorr' if each else 'afterok'}:{number}")
    return waits


def cancel(folder: PlanFolder) -> list[str]:
    """End a plan: no job of it can write from now on. Return the tasks that were taken out of the queue.

    Raises:
        SlurmError: Slurm does not respond; the plan has ended nevertheless.
    """
    folder.end()
    with suppress(WorkspaceError):  # a plan that was changed is no plan: its jobs refuse it
        for job in folder.plan.jobs:
            if not is_done(folder, job):
                cancel_job(folder, job)
        if folder.plan.on == "ray":  # the command that started its jobs ends them
            return []
    tasks = slurm.queue(folder.slurm_name())
    slurm.cancel(sorted({str(task.array) for task in tasks}))
    return [task.id for task in tasks]
