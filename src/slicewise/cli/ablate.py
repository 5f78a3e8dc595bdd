"""`slicewise ablate RECIPE...`: once per recipe and seed through one workspace, then all compared.

Every run is an ordinary one: what was made before with the same settings is used again, so a stopped command
goes on where it was, and what a recipe shares with the one before it is made once.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slicewise.cli import plan as plan_verb
from slicewise.cli.commands import command_line
from slicewise.cli.options import (
    add_config_options,
    add_wait_option,
    compose_from,
    selection_from,
    workspace_from,
)
from slicewise.cli.run import add_answer_options, add_dry_run_option, carry_out, in_charge
from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.core.errors import UsageError
from slicewise.pipeline.receipt import Receipt
from slicewise.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from slicewise.evaluation.recipes import RecipeRun

OUT: Final = "results/recipes"
"""Not `results/ablations`: that is a sealed home of the evaluate step."""


@dataclass(frozen=True)
class _Run:
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
    add_answer_options(parser)
    parser.set_defaults(mode="full", start=None, until="evaluate", only="", skip=None, force="")


def execute(args: argparse.Namespace) -> int:
    runs = list(_runs(args))  # a recipe that cannot be composed is told before any work is done
    if args.dry_run:
        return _show_plans(runs)
    workspace = workspace_from(args)
    with in_charge(args, workspace) as log_path:
        found = []
        for number, run in enumerate(runs, 1):
            say(f"\n{run.title} ({number} of {len(runs)})", "header")
            _carry_out(run, workspace, log_path)
            found.append(_collect(run, workspace))
        if len(runs) > 1:
            say(f"\nback to {runs[0].title}", "header")
            _carry_out(runs[0], workspace, log_path)
        _tell(args, found, runs[0], workspace)
    return 0


def _show_plans(runs: Sequence[_Run]) -> int:
    for number, run in enumerate(runs, 1):
        say(f"\n{run.title} ({number} of {len(runs)})", "header")
        plan_verb.execute(run.args)
    if len(runs) > 1:
        say("\neach as things stand now: what a run shares with one before it is made once", "dim")
    return 0


def _runs(args: argparse.Namespace) -> Iterator[_Run]:
    recipes = [word for word in args.overrides if "=" not in word and not word.startswith("~")]
    overrides = [word for word in args.overrides if word not in recipes]
    _check(args, recipes, overrides)
    seeds = [None] if args.seeds is None else [f"seed={seed}" for seed in range(args.seeds)]
    for recipe in recipes:
        for seed in seeds:
            words = [f"recipes=[{','.join(recipe.split('+'))}]", *overrides, *([seed] if seed else [])]
            own = argparse.Namespace(**{**vars(args), "overrides": words})
            yield _Run(recipe, own, compose_from(own))


def _check(args: argparse.Namespace, recipes: Sequence[str], overrides: Sequence[str]) -> None:
    from slicewise.config.compose import configs_dir
    from slicewise.config.keys import closest

    keys = {word.partition("=")[0].lstrip("+~") for word in overrides}
    if not recipes:
        raise UsageError("name at least one recipe of configs/recipes, e.g. multitask segmentation_only")
    if len(set(recipes)) < len(recipes):
        raise UsageError(f"{', '.join(recipes)}: a recipe is named twice")
    there = sorted(path.stem for path in (configs_dir() / "recipes").glob("*.yaml"))
    if unknown := sorted({name for recipe in recipes for name in recipe.split("+")} - {*there}):
        near = closest(unknown[0], there)
        guess = f"did you mean {near}? " if near else ""
        raise UsageError(f"no recipe is called {', '.join(unknown)}; {guess}there are: {', '.join(there)}")
    if "recipes" in keys:
        raise UsageError(
            "recipes are named without recipes=, e.g. slicewise ablate multitask segmentation_only"
        )
    if args.folds or keys & {"split.folds", "split.fold", "split"}:
        raise UsageError("ablate compares recipes on one split; leave --folds and split.fold out")
    if args.seeds is not None and (args.seeds < 1 or "seed" in keys):
        raise UsageError("--seeds takes a number from 1 on, and sets seed itself; leave seed= out")


def _carry_out(run: _Run, workspace: Workspace, log_path: "Path") -> None:
    carry_out(run.args, run.config, selection_from(run.args, 0), workspace, log_path)


def _collect(run: _Run, workspace: Workspace) -> "RecipeRun":
    """Read what the evaluation of a run left at home."""
    from slicewise.evaluation.compare import read_tables
    from slicewise.evaluation.phases import PhaseRow
    from slicewise.evaluation.recipes import RecipeRun
    from slicewise.evaluation.rows import read_rows
    from slicewise.steps.evaluate import EVALUATE

    folders = {slot: workspace.home(home) for slot, home in EVALUATE.homes.items()}
    receipt = Receipt.read(folders["evaluation"])
    return RecipeRun(
        recipe=run.recipe,
        seed=run.config.seed,
        fingerprint=receipt.fingerprint if receipt else None,
        tables=read_tables(folders["evaluation"]),
        phases=tuple(read_rows(folders["phases"] / "phase_comparison.csv", PhaseRow)),
    )


def _tell(args: argparse.Namespace, found: "Sequence[RecipeRun]", first: _Run, workspace: Workspace) -> None:
    from slicewise.evaluation.recipes import tabulate, to_text, write_recipes

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

    from slicewise.pipeline.provenance import git_commit

    return {
        "command": command_line(args),
        "git_commit": git_commit(Path(__file__)),
        "training_mode": config.training_mode,
        "data": config.data.name,
        "split_seed": config.split.seed,
    }
