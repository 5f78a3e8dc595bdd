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

    It needs the steps of its own fold where they are done once per fold, and the shared ones otherwise. What
    it runs never learns of this: it sees the plain names and a configuration whose `split.fold` is set.
    """

    def run(context: Context[Config]) -> Outcome:
        return step.run(_unfolded_context(context, fold))

    def settings(config: Config) -> Mapping[str, Any]:
        return step.settings(_with_fold(config, fold))

    def demand(context: Context[Config]) -> Demand:
        return step.demand(_unfolded_context(context, fold))

    return replace(
        step,
        name=fold_name(step.name, fold),
        called=step.name,
        run=run,
        settings=settings,
        demand=demand,
        needs=tuple(_fold_step_name(need, fold) for need in step.needs),
        homes={slot: f"{FOLDS_DIR}/{fold}/{home}" for slot, home in step.homes.items()},
        redirects={},
    )


def num_folds(workspace: Workspace) -> int:
    """Return the highest fold that has a home here, or work on its way there; 0 where there is none."""
    homes = (folder.name for folder in (workspace.root / FOLDS_DIR).glob("*"))
    steps = (folder.name for place in ("shelf", "partial") for folder in (workspace.state / place).glob("*"))
    folds = (int(name) for name in homes if name.isdecimal())
    return max((*folds, *map(fold_of, steps)), default=0)


def _unfolded_context(context: Context[Config], fold: int) -> Context[Config]:
    unfolded = {_fold_step_name(name, fold): name for name in FOLD_STEPS}
    homes: dict[tuple[str, str], Path] = {
        (unfolded.get(step, step), slot): home for (step, slot), home in context.homes.items()
    }
    needs = {unfolded.get(step, step): fingerprint for step, fingerprint in context.needs.items()}
    return replace(context, config=_with_fold(context.config, fold), homes=homes, needs=needs)


def _fold_step_name(step: str, fold: int) -> str:
    return fold_name(step, fold) if step in FOLD_STEPS else step


def _with_fold(config: Config, fold: int) -> Config:
    split = config.split.model_copy(update={"fold": fold})
    return config.model_copy(update={"split": split})
