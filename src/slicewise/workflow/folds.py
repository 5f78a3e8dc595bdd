"""A step within one fold of a cross-validation: the same work, another split, another home."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from slicewise.config.schema import Config
from slicewise.engine.step import Context, Demand, Outcome, Step
from slicewise.engine.workspace import Workspace
from slicewise.workflow.step_names import FOLD_STEPS, fold_name, fold_of

FOLDS_DIR: Final = "folds"


def in_fold(step: Step[Config], fold: int) -> Step[Config]:
    """Return `step` as part of fold number `fold`, counted from 1.

    It needs the steps of its own fold where they run once per fold, and the shared ones otherwise. Its
    functions see the plain names and a configuration whose `split.fold` is set.
    """
    names = {name: fold_name(name, fold) for name in FOLD_STEPS}
    plain_names = {folded: name for name, folded in names.items()}

    def with_fold(config: Config) -> Config:
        return config.model_copy(update={"split": config.split.model_copy(update={"fold": fold})})

    def plain_context(context: Context[Config]) -> Context[Config]:
        homes: dict[tuple[str, str], Path] = {
            (plain_names.get(name, name), slot): home for (name, slot), home in context.homes.items()
        }
        needs = {plain_names.get(name, name): fingerprint for name, fingerprint in context.needs.items()}
        return replace(context, config=with_fold(context.config), homes=homes, needs=needs)

    def run(context: Context[Config]) -> Outcome:
        return step.run(plain_context(context))

    def settings(config: Config) -> Mapping[str, Any]:
        return step.settings(with_fold(config))

    def demand(context: Context[Config]) -> Demand:
        return step.demand(plain_context(context))

    return replace(
        step,
        name=names[step.name],
        alias=step.name,
        run=run,
        settings=settings,
        demand=demand,
        needs=tuple(names.get(need, need) for need in step.needs),
        homes={slot: f"{FOLDS_DIR}/{fold}/{home}" for slot, home in step.homes.items()},
        redirects={},
    )


def num_folds(workspace: Workspace) -> int:
    """Return the highest fold with a home or work in progress in a workspace; 0 where there is none."""
    homes = (folder.name for folder in (workspace.root / FOLDS_DIR).glob("*"))
    steps = (folder.name for place in ("shelf", "partial") for folder in (workspace.state / place).glob("*"))
    folds = (int(name) for name in homes if name.isdecimal())
    return max((*folds, *map(fold_of, steps)), default=0)
