"""`slicewise ablate RECIPE...`: once per recipe and seed through one workspace, then all compared.

Every run is an ordinary one: what was made before with the same settings is used again, so a stopped command
goes on where it was, and what a recipe shares with the one before it is made once.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slicewise.cli import plan as plan_verb
from slicewise.cli.invocation import command_line
from slicewise.cli.options import (
    add_config_options,
    add_wait_option,
    compose_from,
    selection_from,
    workspace_from,
)
from slicewise.cli.run import add_dry_run_option, add_prompt_options, hold_workspace, run_pipeline
from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.core.errors import UsageError
from slicewise.engine.receipt import Receipt
from slicewise.engine.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from slicewise.evaluation.comparison.recipes import RecipeRun

OUT: Final = "results/recipes"
"""Not `results/ablations`: that is a sealed home of the evaluate step."""


@dataclass(frozen=True)
class _RecipeArguments:
    """One recipe with one seed, and the arguments with which `slicewise run` would do it."""

    recipe: str
    args: argparse.Namespace
    config: Config

    @property
    def title(self) -> str:
        return f"{self.recipe}, seed {self.config.seed}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    parser.usage = "slicewise ablate RECIPE [RECIPE ...] [options] [key=value ...]"
    parser.epilog = (
        "RECIPE is a file of configs/recipes; lgg_cpu+segmentation_only merges two, in this order. "
        "Differences are against the first one."
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train each recipe with seed=0 to N-1; the split stays as it is",
    )
    add_dry_run_option(parser)
    add_wait_option(parser)
    add_prompt_options(parser)
    parser.set_defaults(mode="full", start=None, until="evaluate", only="", skip=None, force="")


def execute(args: argparse.Namespace) -> int:
    runs = list(_runs(args))  # a recipe that cannot be composed is told before any work is done
    if args.dry_run:
        return _show_plans(runs)
    workspace = workspace_from(args)
    with hold_workspace(args, workspace) as log_path:
        found = []
        for number, run in enumerate(runs, 1):
            say(f"\n{run.title} ({number} of {len(runs)})", "header")
            _run_recipe(run, workspace, log_path)
            found.append(_collect(run, workspace))
        if len(runs) > 1:
            say(f"\nback to {runs[0].title}", "header")
            _run_recipe(runs[0], workspace, log_path)
        _show_results(args, found, runs[0], workspace)
    return 0


def _show_plans(runs: Sequence[_RecipeArguments]) -> int:
    for number, run in enumerate(runs, 1):
        say(f"\n{run.title} ({number} of {len(runs)})", "header")
        plan_verb.execute(run.args)
    if len(runs) > 1:
        say("\neach as things stand now: what a run shares with one before it is made once", "dim")
    return 0


def _runs(args: argparse.Namespace) -> Iterator[_RecipeArguments]:
    recipes = [word for word in args.overrides if "=" not in word and not word.startswith("~")]
    overrides = [word for word in args.overrides if word not in recipes]
    _check(args, recipes, overrides)
    seeds = [None] if args.seeds is None else [f"seed={seed}" for seed in range(args.seeds)]
    for recipe in recipes:
        for seed in seeds:
            words = [f"recipes=[{','.join(recipe.split('+'))}]", *overrides, *([seed] if seed else [])]
            run_args = argparse.Namespace(**{**vars(args), "overrides": words})
            yield _RecipeArguments(recipe, run_args, compose_from(run_args))


def _check(args: argparse.Namespace, recipes: Sequence[str], overrides: Sequence[str]) -> None:
    from slicewise.config.compose import find_configs_dir
    from slicewise.config.keys import closest_match

    keys = {word.partition("=")[0].lstrip("+~") for word in overrides}
    if not recipes:
        raise UsageError("name at least one recipe of configs/recipes, e.g. multitask segmentation_only")
    if len(set(recipes)) < len(recipes):
        raise UsageError(f"{', '.join(recipes)}: a recipe is named twice")
    recipe_names = sorted(path.stem for path in (find_configs_dir() / "recipes").glob("*.yaml"))
    if unknown := sorted({name for recipe in recipes for name in recipe.split("+")} - {*recipe_names}):
        suggestion = closest_match(unknown[0], recipe_names)
        guess = f"did you mean {suggestion}? " if suggestion else ""
        raise UsageError(
            f"no recipe is called {', '.join(unknown)}; {guess}there are: {', '.join(recipe_names)}"
        )
    if "recipes" in keys:
        raise UsageError(
            "recipes are named without recipes=, e.g. slicewise ablate multitask segmentation_only"
        )
    if args.folds or keys & {"split.folds", "split.fold", "split"}:
        raise UsageError("ablate compares recipes on one split; leave --folds and split.fold out")
    if args.seeds is not None and (args.seeds < 1 or "seed" in keys):
        raise UsageError("--seeds takes a number from 1 on, and sets seed itself; leave seed= out")


def _run_recipe(run: _RecipeArguments, workspace: Workspace, log_path: "Path") -> None:
    run_pipeline(run.args, run.config, selection_from(run.args, 0), workspace, log_path)


def _collect(run: _RecipeArguments, workspace: Workspace) -> "RecipeRun":
    """Read what the evaluation of a run left at home."""
    from slicewise.domain.scores import StageRow
    from slicewise.domain.tables import read_rows
    from slicewise.evaluation.comparison.recipes import RecipeRun
    from slicewise.evaluation.comparison.runs import read_tables
    from slicewise.steps.evaluate import EVALUATE

    folders = {slot: workspace.home(home) for slot, home in EVALUATE.homes.items()}
    receipt = Receipt.read(folders["evaluation"])
    return RecipeRun(
        recipe=run.recipe,
        seed=run.config.seed,
        fingerprint=receipt.fingerprint if receipt else None,
        tables=read_tables(folders["evaluation"]),
        stages=tuple(read_rows(folders["phases"] / "phase_comparison.csv", StageRow)),
    )


def _show_results(
    args: argparse.Namespace, found: "Sequence[RecipeRun]", first: _RecipeArguments, workspace: Workspace
) -> None:
    from slicewise.evaluation.comparison.recipes import tabulate, to_text, write_recipes

    rows, folder = tabulate(found), workspace.home(OUT)
    write_recipes(folder, found, rows, _header(args, first.config), synthetic=first.config.data.synthetic)
    say()
    for line in to_text(rows):
        say(line)
    for name in ("recipes.csv", "recipes.json", "recipes.png"):
        say(f"  {OUT}/{name}", "dim")
    say(f"checkpoints and results are those of {first.title}; the others wait on the shelf", "dim")


def _header(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    from pathlib import Path

    from slicewise.engine.provenance import git_commit

    return {
        "command": command_line(args),
        "git_commit": git_commit(Path(__file__)),
        "training_mode": config.training_mode,
        "data": config.data.name,
        "split_seed": config.split.seed,
    }
