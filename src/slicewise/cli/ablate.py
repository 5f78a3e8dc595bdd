"""`slicewise ablate RECIPE...`: run every recipe with every seed in one workspace, and compare the scores.

Each run is an ordinary one that reuses what is up to date: a stopped command resumes where it was, and steps
that recipes share run once.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from slicewise.cli import options, plan
from slicewise.cli.run import hold_workspace, run_pipeline
from slicewise.config.keys import closest_match
from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.core.errors import UsageError
from slicewise.engine.receipt import Receipt
from slicewise.engine.record import git_commit
from slicewise.engine.workspace import Workspace
from slicewise.steps.evaluate import HOMES

if TYPE_CHECKING:
    from slicewise.domain.tables import ComparisonRow
    from slicewise.evaluation.runs import Run

OUT: Final = "results/recipes"
"""Not `results/ablations`, which is an output folder of the evaluate step."""


class _Variant(NamedTuple):
    """One recipe with one seed, and the arguments with which `slicewise run` would run it."""

    recipe: str
    args: argparse.Namespace
    config: Config

    @property
    def title(self) -> str:
        return f"{self.recipe}, seed {self.config.seed}"

    def run(self, workspace: Workspace, log_path: Path) -> None:
        selection = options.selection_from(self.args, self.config)
        run_pipeline(self.args, self.config, selection, workspace, log_path)


class _Result(NamedTuple):
    """The evaluation of a variant, its fingerprint, and what the last stage gained."""

    run: "Run"
    fingerprint: str | None
    gains: "list[ComparisonRow]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_config_options(parser)
    parser.usage = "slicewise ablate RECIPE [RECIPE ...] [options] [key=value ...]"
    parser.epilog = (
        "RECIPE is a file of configs/recipes or of another package; lgg_cpu+segmentation_only merges two, in "
        "this order. Differences are against the first one."
    )
    seeds_help = "train each recipe with seed=0 to N-1; the split stays as it is"
    parser.add_argument("--seeds", type=int, metavar="N", help=seeds_help)
    options.add_run_options(parser)
    parser.set_defaults(mode="full", start=None, until="evaluate", only=[], skip=[], force=[])


def execute(args: argparse.Namespace) -> int:
    variants = list(_compose_variants(args))  # all: an invalid recipe is an error before any work is done
    headings = [f"\n{each.title} ({number} of {len(variants)})" for number, each in enumerate(variants, 1)]
    if args.dry_run:
        for heading, variant in zip(headings, variants, strict=True):
            say(heading, "header")
            plan.execute(variant.args)
        if len(variants) > 1:
            say("\neach plan is for the outputs of today: a step that runs share runs once", "dim")
        return 0
    workspace = options.workspace_from(args)
    with hold_workspace(args, workspace) as log_path:
        results = []
        for heading, variant in zip(headings, variants, strict=True):
            say(heading, "header")
            variant.run(workspace, log_path)
            results.append(_read_results(variant, workspace))
        if len(variants) > 1:
            say(f"\nback to {variants[0].title}", "header")
            variants[0].run(workspace, log_path)
        _show_results(args, results, variants[0], workspace)
    return 0


def _compose_variants(args: argparse.Namespace) -> Iterator[_Variant]:
    recipes = [word for word in args.overrides if "=" not in word and not word.startswith("~")]
    overrides = [word for word in args.overrides if word not in recipes]
    _check_arguments(args, recipes, {word.partition("=")[0].lstrip("+~") for word in overrides})
    for recipe in recipes:
        for seed in [None] if args.seeds is None else range(args.seeds):
            words = [f"recipes=[{','.join(recipe.split('+'))}]", *overrides]
            words += [] if seed is None else [f"seed={seed}"]
            variant_args = argparse.Namespace(**{**vars(args), "overrides": words})
            yield _Variant(recipe, variant_args, options.compose_from(variant_args))


def _check_arguments(args: argparse.Namespace, recipes: Sequence[str], keys: set[str]) -> None:
    from slicewise.config.folders import config_folders, list_choices

    if not recipes:
        raise UsageError("name at least one recipe of configs/recipes, e.g. tumour segmentation_only")
    if len(set(recipes)) < len(recipes):
        raise UsageError(f"{', '.join(recipes)}: a recipe is named twice")
    names = list_choices("recipes", config_folders())
    if unknown := sorted({name for recipe in recipes for name in recipe.split("+")} - {*names}):
        suggestion = closest_match(unknown[0], names)
        guess = f"did you mean {suggestion}? " if suggestion else ""
        raise UsageError(f"no recipe is called {', '.join(unknown)}; {guess}there are: {', '.join(names)}")
    if "recipes" in keys:
        raise UsageError("recipes are named without recipes=, e.g. slicewise ablate tumour segmentation_only")
    if args.folds or keys & {"split.folds", "split.fold", "split"}:
        raise UsageError("ablate compares recipes on one split; leave --folds and split.fold out")
    if args.seeds is not None and (args.seeds < 1 or "seed" in keys or args.seed):
        raise UsageError("--seeds takes a number from 1 on, and sets seed itself; leave seed= out")


def _read_results(variant: _Variant, workspace: Workspace) -> _Result:
    """Return what a run has just written."""
    from slicewise.domain.tables import ComparisonRow, read_rows
    from slicewise.evaluation.runs import read_run

    stages = read_rows(workspace.home(HOMES["phases"]) / "phase_comparison.csv", ComparisonRow)
    gains = [
        replace(row, variant=f"{variant.recipe}: {row.variant}")
        for row in stages
        if row.variant == variant.config.final_stage and row.minus
    ]
    folder = workspace.home(HOMES["evaluation"])
    receipt = Receipt.read(folder)
    run = read_run(folder, variant.recipe, variant.config.seed)
    return _Result(run, receipt.fingerprint if receipt else None, gains)


def _show_results(
    args: argparse.Namespace, results: Sequence[_Result], first: _Variant, workspace: Workspace
) -> None:
    from slicewise.evaluation.comparison import across_seeds, to_text, write_comparison
    from slicewise.evaluation.runs import compare_runs

    config, rows = first.config, []
    for seed in dict.fromkeys(result.run.variant.seed for result in results):
        rows += compare_runs([result.run for result in results if result.run.variant.seed == seed])[0]
    rows += [row for result in results for row in result.gains]
    write_comparison(
        workspace.home(OUT),
        "recipes",
        rows,
        f"Recipes on the same test patients, compared with {first.recipe}",
        [result.run.variant for result in results],
        synthetic=config.data.synthetic,
        command=options.command_line(args),
        git_commit=git_commit(Path(__file__)),
        training_mode=config.training_mode,
        data=config.data.name,
        split_seed=config.split.seed,
        compared_with=first.recipe,
        runs=[
            {"recipe": run.variant.name, "seed": run.variant.seed, "evaluate": fingerprint}
            for run, fingerprint, _ in results
        ],
        across_seeds=across_seeds(rows),
    )
    say()
    say("\n".join(to_text(rows)))
    say("intervals do not cover another training (--seeds)")
    for name in ("recipes.csv", "recipes.json", "recipes.md", "recipes.png"):
        say(f"  {OUT}/{name}", "dim")
    say(f"checkpoints and results are those of {first.title}; the others stay on the shelf", "dim")
