"""`slicewise plan`: what a run would do, and why. Nothing is changed."""

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from contextlib import suppress

from slicewise.cli import options
from slicewise.config.schema import Config
from slicewise.core.console import Tone, paint, say
from slicewise.core.disk import expand_user
from slicewise.core.errors import ConfigError
from slicewise.engine.lock import lock_holder
from slicewise.engine.plan import Action, Decision, plan
from slicewise.engine.step import Step
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline

_TONES: dict[Action, Tone] = {
    Action.RUN: "header",
    Action.CHECK: "warn",
    Action.REUSE: "good",
    Action.SKIP: "dim",
}
_GAP = 10
"""Columns between a step's name and the reason: the action and the spaces around it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_config_options(parser)
    options.add_selection_options(parser)


def execute(args: argparse.Namespace) -> int:
    config, workspace = options.compose_from(args), options.workspace_from(args)
    hashes = workspace.load_hashes()
    selection = options.selection_from(args, config)
    decisions = plan(build_steps(config, workspace), config, workspace, hashes, selection)
    # A run in progress keeps the same hashes, and newer ones: then nothing is written.
    if workspace.state.is_dir() and lock_holder(workspace.state / "lock") is None:
        with suppress(OSError):  # they only save time
            workspace.save_hashes(hashes)
    print_plan(decisions, config)
    return 0


def build_steps(config: Config, workspace: Workspace) -> tuple[Step[Config], ...]:
    """Return the steps of a configuration.

    Raises:
        ConfigError: the run would replace the checkpoint that it starts from, and never be up to date.
    """
    steps = pipeline(config)
    start = config.training.start_from
    homes = {workspace.home(home).resolve() for step in steps for home in step.homes.values()}
    if start is not None and homes & {*expand_user(start).resolve().parents}:
        raise ConfigError(
            f"training.start_from={start} is an output of this workspace, which the run replaces; copy it to "
            "another place first, or run in another --workspace"
        )
    return steps


def print_plan(decisions: Sequence[Decision[Config]], config: Config) -> None:
    """Print one line per step, the reason wrapped below itself."""
    synthetic = ", synthetic" if config.data.synthetic else ""
    minutes = config.training.minutes
    time = f", in {minutes:g} min" if minutes else ""
    say(f"Plan for {config.training_mode} on {config.data.name}{synthetic}{time}", "header")
    longest = max(len(decision.step.name) for decision in decisions)
    indent = longest + _GAP
    width = max(60, min(shutil.get_terminal_size().columns, 120)) - indent
    for decision in decisions:
        lines = textwrap.wrap(decision.reason, width, break_on_hyphens=False, break_long_words=False)
        action = paint(f"{decision.action.value:<7}", _TONES[decision.action])
        say(f"  {decision.step.name:<{longest}} {action}" + ("\n" + " " * indent).join(lines))
