"""`slicewise run --on slurm`: the plan is made here, once, and sealed; jobs make what it names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from slicewise.cli.plan import build_steps
from slicewise.cluster.plan import PlanFolder, source_folder, without_cluster
from slicewise.cluster.progress import describe, read_plan_progress, remarks
from slicewise.cluster.script import render_script
from slicewise.cluster.seal import jobs_needed, make_plan, seal
from slicewise.cluster.source import source_digest
from slicewise.cluster.submit import submit
from slicewise.config.schema import Config
from slicewise.config.schema.base import plain
from slicewise.core.console import say
from slicewise.core.errors import UsageError
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
    config: Config, selection: Selection, workspace: Workspace, header: Mapping[str, Any]
) -> None:
    """Print the scripts of the jobs that a run would submit."""
    decisions, hashes = decide(config, selection, workspace), workspace.load_hashes()
    source = source_digest()[:16]
    sealed = make_plan(decisions, config, workspace, hashes, selection, header, source)
    if any(each.step.name == DOWNLOAD.name and each.action is Action.RUN for each in decisions):
        say("\ndownload runs here first; the bundles of cases are known after it", "warn")
    for group in sealed.groups:
        number = len(group.jobs)
        say(f"\n# {group.name}: {number} task{'s' if number > 1 else ''}", "header")
        say(
            render_script(
                PlanFolder(workspace, 0), group, source_folder(workspace, source), config.cluster, _DIGEST
            )
        )


def submit_plan(
    config: Config, selection: Selection, workspace: Workspace, header: Mapping[str, Any]
) -> None:
    """Seal the plan of the jobs that are needed now, and submit it. The caller holds the workspace."""
    hashes = workspace.load_hashes()
    decisions = decide(config, selection, workspace)
    _submit(seal(decisions, config, workspace, hashes, selection, header), config)


def continue_plan(folder: PlanFolder, config: Config, selection: Selection) -> None:
    """Submit what is missing of the plan in progress.

    Raises:
        UsageError: this command wants something else.
    """
    wanted = {
        "configuration": without_cluster(plain(config)),
        "selection of steps": {name: request.value for name, request in selection.requests.items()},
        "version of the code": source_digest()[:16],
    }
    sealed = dict(zip(wanted, folder.plan.goal, strict=True))
    if different := [name for name, value in sealed.items() if wanted[name] != value]:
        raise UsageError(
            f"plan {folder.number} of {folder.workspace.root} is in progress with another "
            f"{' and another '.join(different)}, and its jobs make what was sealed. Wait for them "
            "(`slicewise status --watch`), or end them with `slicewise cancel`"
        )
    for remark in remarks(folder):
        say(remark, "warn")
    _submit(folder, config)


def _submit(folder: PlanFolder, config: Config) -> None:
    submitted = submit(folder, config.cluster)
    for group, number in submitted.items():
        say(f"  submitted {group}: {number} task{'s' if number > 1 else ''}", "good")
    if not submitted:
        say("all that is left waits or runs already")
        for line in describe(folder, read_plan_progress(folder)):
            say(line)
    say("`slicewise status --watch` shows the jobs, `slicewise cancel` ends them")
    say("the same command again submits what is missing; at the end it shows the results", "dim")
