"""A step within one fold of a cross-validation: the same work, another split, another home."""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from slicewise.config.schema import Config
from slicewise.engine.step import Context, Step

FOLDS_DIR: Final = "folds"


def fold_name(step: str, fold: int) -> str:
    """Return the name of a step within a fold, counted from 1."""
    return f"fold{fold}.{step}"


def in_fold(step: Step[Config], fold: int, repeated: Collection[str]) -> Step[Config]:
    """Return `step` as part of fold number `fold`, counted from 1; `repeated` are the steps of every fold.

    It needs the steps of its own fold where they run once per fold, and the shared ones otherwise. Its
    functions see the plain names and a configuration whose `split.fold` is set.
    """
    names = {name: fold_name(name, fold) for name in repeated}
    plain_names = {folded: name for name, folded in names.items()}

    def with_fold(config: Config) -> Config:
        return config.model_copy(update={"split": config.split.model_copy(update={"fold": fold})})

    def plain_context(context: Context[Config]) -> Context[Config]:
        homes = {(plain_names.get(name, name), slot): home for (name, slot), home in context.homes.items()}
        needs = {plain_names.get(name, name): fingerprint for name, fingerprint in context.needs.items()}
        return replace(context, config=with_fold(context.config), homes=homes, needs=needs)

    return replace(
        step,
        name=names[step.name],
        plain_name=step.name,
        fold=fold,
        run=lambda context: step.run(plain_context(context)),
        settings=lambda config: step.settings(with_fold(config)),
        demand=lambda context: step.demand(plain_context(context)),
        needs=tuple(names.get(need, need) for need in step.needs),
        homes={slot: f"{FOLDS_DIR}/{fold}/{home}" for slot, home in step.homes.items()},
        redirects={},
        highlights={},
    )
