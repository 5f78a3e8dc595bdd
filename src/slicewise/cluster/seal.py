"""From what a run would do to a sealed plan: a job for each step that must run, bundles for preprocessing."""

from collections.abc import Mapping, Sequence
from typing import Any

from slicewise.cluster.bundles import MAX_TASKS, RAY_WORKERS, case_context, make_bundles
from slicewise.cluster.plan import (
    BUNDLES,
    Group,
    Job,
    Need,
    SealedPlan,
    SealedStep,
    Where,
)
from slicewise.cluster.slurm import num_slots
from slicewise.config.schema import Config
from slicewise.config.schema.base import plain
from slicewise.core.errors import ConfigError
from slicewise.core.hashing import HashCache
from slicewise.engine.plan import Action, Decision, Selection
from slicewise.engine.record import package_versions
from slicewise.engine.step import Context, Step
from slicewise.engine.workspace import Workspace
from slicewise.steps.download import DOWNLOAD
from slicewise.steps.preprocess import PREPROCESS

_RESOURCES = ("data", "train", "evaluate")


def jobs_needed(decisions: Sequence[Decision[Config]]) -> list[Step[Config]]:
    """Return the steps that have to run as jobs; a service runs where people reach it."""
    return [each.step for each in decisions if each.action in (Action.RUN, Action.CHECK) and each.step.homes]


def make_plan(
    decisions: Sequence[Decision[Config]],
    config: Config,
    workspace: Workspace,
    hashes: HashCache,
    selection: Selection,
    header: Mapping[str, Any],
    source: str,
    on: Where = "slurm",
) -> SealedPlan:
    """Return the plan of the jobs that these decisions need.

    Raises:
        ConfigError: another package's setting does not survive being written and read.
    """
    tree = plain(config)
    if plain(Config.model_validate(tree)) != tree:
        raise ConfigError("the configuration is another one after it is written and read; run without --on")
    steps = jobs_needed(decisions)
    by_name = {each.step.name: each for each in decisions}
    bundles = []
    if PREPROCESS in steps and by_name[DOWNLOAD.name].output:  # otherwise the cases are not known yet
        bundles = _make_bundles(case_context(by_name, config, workspace, hashes), on)
    return SealedPlan(
        config=tree,
        requests={each.step.name: selection.of(each.step.name).value for each in decisions},
        scope=selection.scope,
        source=source,
        versions=package_versions(),
        header=header,
        steps={s.name: SealedStep(by_name[s.name].identity, dict(s.homes)) for s in steps},
        groups=_make_groups(steps, bundles),
        on=on,
    )


def _make_bundles(context: Context[Config], on: Where) -> list[tuple[str, ...]]:
    """Return bundles for workers that stay, or for tasks that each take time to start."""
    cluster = context.config.cluster
    if on == "ray":
        return make_bundles(context, cluster.ray.bundle_seconds, RAY_WORKERS)
    slots = num_slots(cluster.data.partition or cluster.partition, cluster.data.cpus)
    return make_bundles(context, cluster.bundle_seconds, slots or MAX_TASKS)


def _make_groups(steps: Sequence[Step[Config]], bundles: Sequence[tuple[str, ...]]) -> tuple[Group, ...]:
    """Return a group for each step, with a job for each fold that runs it; bundles come first."""
    by_group: dict[str, list[Step[Config]]] = {}
    for step in steps:
        by_group.setdefault(step.option, []).append(step)
    group_of = {step.name: name for name, members in by_group.items() for step in members}
    folds = {name: [step.fold for step in members] for name, members in by_group.items()}
    groups = []
    if bundles:
        jobs = tuple(Job(f"{BUNDLES}.{i}", PREPROCESS.name, keys) for i, keys in enumerate(bundles))
        groups.append(Group(BUNDLES, "data", jobs, ()))
    for name, members in by_group.items():
        before = dict.fromkeys(group_of[need] for step in members for need in step.needs if need in group_of)
        after = [Need(other, each=folds[other] == folds[name] and all(folds[name])) for other in before]
        if bundles and name == PREPROCESS.name:
            after.append(Need(BUNDLES, each=False))
        resources = members[0].group if members[0].group in _RESOURCES else "evaluate"
        jobs = tuple(Job(step.name, step.name) for step in members)
        groups.append(Group(name, resources, jobs, tuple(after)))
    return tuple(groups)
