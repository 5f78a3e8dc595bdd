"""`slicewise run --on slurm|ray`: the plan is made here, once, and sealed; jobs make what it names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from slicewise.cli.plan import build_steps
from slicewise.cluster.plan import PlanFolder, Where, source_folder, without_cluster, write_plan
from slicewise.cluster.progress import describe, read_plan_progress, remarks
from slicewise.cluster.script import render_script
from slicewise.cluster.seal import jobs_needed, make_plan
from slicewise.cluster.source import seal_source, source_digest
from slicewise.cluster.submit import submit
from slicewise.config.schema import Config
from slicewise.config.schema.base import plain
from slicewise.core.console import say
from slicewise.core.errors import SliceWiseError, UsageError
from slicewise.engine.plan import Action, Decision, Request, Selection, plan
from slicewise.engine.workspace import Workspace
from slicewise.steps.download import DOWNLOAD

_DIGEST = "DIGEST-OF-THE-PLAN"


def decide(config: Config, selection: Selection, workspace: Workspace) -> list[Decision[Config]]:
    """Return what a run would do."""
    hashes = workspace.load_hashes()
    return plan(build_steps(config, workspace), config, workspace, hashes, selection)


def without_services(config: Config, selection: Selection, workspace: Workspace) -> Selection:
    """Return the selection without what serves people, which a cluster does not."""
    services = [step.name for step in build_steps(config, workspace) if not step.homes]
    left_out = [name for name in services if selection.of(name) in (Request.AUTO, Request.FORCE)]
    for name in left_out:
        say(f"{name} does not run on a cluster; start it where people reach it, with --only {name}", "dim")
    return replace(selection, requests={**selection.requests, **dict.fromkeys(services, Request.SKIP)})


def select_local(decisions: Sequence[Decision[Config]], selection: Selection) -> Selection | None:
    """Return the selection of what is done here: the download, which needs the network, and what is reused.

    None where nothing is left for jobs.
    """
    if {step.name for step in jobs_needed(decisions)} <= {DOWNLOAD.name}:
        return None
    here = {each.step.name for each in decisions if each.action is Action.REUSE} | {DOWNLOAD.name}
    requests = {
        name: request if name in here or request is Request.SKIP else Request.OUTSIDE
        for name, request in selection.requests.items()
    }
    return Selection(requests, "what is done here")


def show_scripts(
    config: Config, selection: Selection, workspace: Workspace, header: Mapping[str, Any], on: Where
) -> None:
    """Print the jobs that a run would start, and the scripts that it would submit."""
    decisions, hashes = decide(config, selection, workspace), workspace.load_hashes()
    source = source_digest()[:16]
    sealed = make_plan(decisions, config, workspace, hashes, selection, header, source, on)
    if any(each.step.name == DOWNLOAD.name and each.action is Action.RUN for each in decisions):
        say("\ndownload runs here first; the bundles of cases are known after it", "warn")
    for group in sealed.groups:
        number = len(group.jobs)
        say(f"\n# {group.name}: {number} task{'s' if number > 1 else ''}", "header")
        if on == "slurm":
            folder = PlanFolder(workspace, 0)
            say(render_script(folder, group, source_folder(workspace, source), config.cluster, _DIGEST))


def seal_plan(
    config: Config, selection: Selection, workspace: Workspace, header: Mapping[str, Any], on: Where
) -> PlanFolder:
    """Seal the plan of the jobs that are needed now. The caller holds the workspace."""
    hashes = workspace.load_hashes()
    decisions = decide(config, selection, workspace)
    source = seal_source(source_folder(workspace, ""))
    return write_plan(
        workspace, make_plan(decisions, config, workspace, hashes, selection, header, source, on)
    )


def check_goal(folder: PlanFolder, config: Config, selection: Selection, on: Where) -> None:
    """Check that a plan in progress makes what this command wants.

    Raises:
        UsageError: this command wants something else.
    """
    wanted = {
        "configuration": without_cluster(plain(config)),
        "selection of steps": {name: request.value for name, request in selection.requests.items()},
        "version of the code": source_digest()[:16],
        "place of the jobs": on,
    }
    sealed = dict(zip(wanted, (*folder.plan.goal, folder.plan.on), strict=True))
    if different := [name for name, value in sealed.items() if wanted[name] != value]:
        raise UsageError(
            f"plan {folder.number} of {folder.workspace.root} is in progress with another "
            f"{' and another '.join(different)}, and its jobs make what was sealed. Wait for them "
            "(`slicewise status --watch`), or end them with `slicewise cancel`"
        )
    for remark in remarks(folder):
        say(remark, "warn")


def submit_jobs(folder: PlanFolder, config: Config) -> None:
    """Submit what is missing of a plan to Slurm."""
    submitted = submit(folder, config.cluster)
    for group, number in submitted.items():
        say(f"  submitted {group}: {number} task{'s' if number > 1 else ''}", "good")
    if not submitted:
        say("all that is left waits or runs already")
        for line in describe(folder, read_plan_progress(folder)):
            say(line)
    say("`slicewise status --watch` shows the jobs, `slicewise cancel` ends them")
    say("the same command again submits what is missing; at the end it shows the results", "dim")


def run_on_ray(folder: PlanFolder, config: Config) -> None:
    """Run what is missing of a plan on Ray, to its end.

    Raises:
        SliceWiseError: jobs failed, or Ray cannot run them.
    """
    from slicewise.cluster.on_ray import run_jobs
    from slicewise.cluster.ray_workers import connected

    try:
        with connected(config.cluster, folder.workspace.root):
            failed = run_jobs(folder, config)
    except KeyboardInterrupt:
        command = folder.plan.header.get("command", "the same command")
        say(f"\nstopped; finished jobs and saved states are kept. To continue: {command}", "warn")
        raise
    if failed:
        details = [line for group in read_plan_progress(folder).groups for line in group.details]
        raise SliceWiseError(
            f"{', '.join(place.job.name for place in failed)} failed; finished work is kept, the output is "
            f"in {folder.workspace.relative(folder.logs)}, and the same command runs what is missing\n"
            + "\n".join(details)
        )


def reuse(selection: Selection) -> Selection:
    """Return the selection of a run that shows what jobs have made."""
    requests: dict[str, Request] = {
        name: Request.AUTO if request is Request.FORCE else request
        for name, request in selection.requests.items()
    }
    return replace(selection, requests=requests)
