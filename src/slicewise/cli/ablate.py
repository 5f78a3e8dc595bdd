"""`slicewise ablate RECIPE...`: run every recipe with every seed in one workspace, and compare the scores.

Each run is an ordinary one that reuses what is up to date: a stopped command resumes where it was, and steps
that recipes share run once.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from slicewise.cli.invocation import command_line
from slicewise.cli.options import (
    add_config_options,
    add_run_options,
    compose_from,
    selection_from,
    workspace_from,
)
from slicewise.cli.session import hold_workspace, plan_pipeline, run_pipeline
from slicewise.config.keys import closest_match
from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.core.errors import UsageError
from slicewise.engine.provenance import git_commit
from slicewise.engine.receipt import Receipt
from slicewise.engine.workspace import Workspace
from slicewise.steps.evaluate import HOMES

if TYPE_CHECKING:
    from slicewise.domain.tables import ComparisonRow
    from slicewise.evaluation.comparison.runs import Run

OUT: Final = "results/recipes"
"""Not `results/ablations`, which is an output folder of the evaluate step."""


class _Result(NamedTuple):
    """The evaluation of a run, its fingerprint, and what the last stage gained."""

    run: "Run"
    fingerprint: str | None
    gains: "list[ComparisonRow]"


@dataclass(frozen=True)
class _Run:
    """One recipe with one seed, and the arguments with which `slicewise run` would run it."""

    recipe: str
    args: argparse.Namespace
    config: Config

    @property
    def title(self) -> str:
        return f"{self.recipe}, seed {self.config.seed}"

    def execute(self, workspace: Workspace, log_path: Path) -> None:
        run_pipeline(self.args, self.config, selection_from(self.args, self.config), workspace, log_path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    parser.usage = "slicewise ablate RECIPE [RECIPE ...] [options] [key=value ...]"
    parser.epilog = (
        "RECIPE is a file of configs/recipes or of another package; lgg_cpu+segmentation_only merges two, in "
        "this order. Differences are against the first one."
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train each recipe with seed=0 to N-1; the split stays as it is",
    )
    add_run_options(parser)
    parser.set_defaults(mode="full", start=None, until="evaluate", only="", skip="", force="")


def execute(args: argparse.Namespace) -> int:
    runs = list(_compose_runs(args))  # all of them: an invalid recipe is an error before any work is done
    headings = [f"\n{run.title} ({number} of {len(runs)})" for number, run in enumerate(runs, 1)]
    if args.dry_run:
        for heading, run in zip(headings, runs, strict=True):
            say(heading, "header")
            plan_pipeline(run.args)
        if len(runs) > 1:
            say("\neach plan is for the outputs of today: a step that runs share runs once", "dim")
        return 0
    workspace = workspace_from(args)
    with hold_workspace(args, workspace) as log_path:
        results = []
        for heading, run in zip(headings, runs, strict=True):
            say(heading, "header")
            run.execute(workspace, log_path)
            results.append(_read_results(run, workspace))
        if len(runs) > 1:
            say(f"\nback to {runs[0].title}", "header")
            runs[0].execute(workspace, log_path)
        _show_results(args, results, runs[0], workspace)
    return 0


def _compose_runs(args: argparse.Namespace) -> Iterator[_Run]:
    recipes = [word for word in args.overrides if "=" not in word and not word.startswith("~")]
    overrides = [word for word in args.overrides if word not in recipes]
    _check_arguments(args, recipes, overrides)
    seeds = [[]] if args.seeds is None else [[f"seed={seed}"] for seed in range(args.seeds)]
    for recipe in recipes:
        for seed in seeds:
            words = [f"recipes=[{','.join(recipe.split('+'))}]", *overrides, *seed]
            run_args = argparse.Namespace(**{**vars(args), "overrides": words})
            yield _Run(recipe, run_args, compose_from(run_args))


def _check_arguments(args: argparse.Namespace, recipes: Sequence[str], overrides: Sequence[str]) -> None:
    from slicewise.config.compose import config_folders, list_choices

    keys = {word.partition("=")[0].lstrip("+~") for word in overrides}
    if not recipes:
        raise UsageError("name at least one recipe of configs/recipes, e.g. multitask segmentation_only")
    if len(set(recipes)) < len(recipes):
        raise UsageError(f"{', '.join(recipes)}: a recipe is named twice")
    recipe_names = list_choices("recipes", config_folders())
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


def _read_results(run: _Run, workspace: Workspace) -> _Result:
    """Return what a run has just written."""
    from slicewise.domain.tables import ComparisonRow, read_rows
    from slicewise.evaluation.comparison.runs import read_run

    folders = {slot: workspace.home(home) for slot, home in HOMES.items()}
    stages = read_rows(folders["phases"] / "phase_comparison.csv", ComparisonRow)
    gains = [
        replace(row, variant=f"{run.recipe}: {row.variant}")
        for row in stages
        if row.variant == run.config.final_stage and row.minus
    ]
    receipt = Receipt.read(folders["evaluation"])
    finished = read_run(folders["evaluation"], run.recipe, run.config.seed)
    return _Result(finished, receipt.fingerprint if receipt else None, gains)


def _show_results(
    args: argparse.Namespace, results: Sequence[_Result], first: _Run, workspace: Workspace
) -> None:
    from slicewise.evaluation.comparison.output import across_seeds, to_text, write_comparison
    from slicewise.evaluation.comparison.runs import compare_runs

    config, rows = first.config, []
    for seed in dict.fromkeys(result.run.variant.seed for result in results):
        rows += compare_runs([result.run for result in results if result.run.variant.seed == seed])[0]
    rows += [row for result in results for row in result.gains]
    runs = [
        {"recipe": run.variant.name, "seed": run.variant.seed, "evaluate": fingerprint}
        for run, fingerprint, _ in results
    ]
    write_comparison(
        workspace.home(OUT),
        "recipes",
        rows,
        f"Recipes on the same test patients, compared with {first.recipe}",
        synthetic=config.data.synthetic,
        command=command_line(args),
        git_commit=git_commit(Path(__file__)),
        training_mode=config.training_mode,
        data=config.data.name,
        split_seed=config.split.seed,
        compared_with=first.recipe,
        runs=runs,
        across_seeds=across_seeds(rows),
    )
    say()
    for line in to_text(rows):
        say(line)
    say("intervals do not cover another training (--seeds)")
    for name in ("recipes.csv", "recipes.json", "recipes.md", "recipes.png"):
        say(f"  {OUT}/{name}", "dim")
    say(f"checkpoints and results are those of {first.title}; the others stay on the shelf", "dim")
