"""`slicewise plan`: what a run would do, and why. Nothing is changed."""

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from contextlib import suppress

from slicewise.cli.options import (
    add_config_options,
    add_selection_options,
    build_steps,
    compose_from,
    selection_from,
    workspace_from,
)
from slicewise.config.schema import Config
from slicewise.core.console import Tone, paint, say
from slicewise.engine.lock import lock_holder
from slicewise.engine.plan import Action, Decision, plan

_TONES: dict[Action, Tone] = {
    Action.RUN: "header",
    Action.CHECK: "warn",
    Action.REUSE: "good",
    Action.SKIP: "dim",
}
_GAP = 10
"""Columns between a step's name and the reason: the action and the spaces around it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    add_selection_options(parser)


def execute(args: argparse.Namespace) -> int:
    config = compose_from(args)
    workspace = workspace_from(args)
    hashes = workspace.load_hashes()
    selection = selection_from(args, config.split.folds)
    decisions = plan(build_steps(config, workspace), config, workspace, hashes, selection)
    # Beside a run nothing is written: it remembers the same hashes, and newer ones.
    if workspace.state.is_dir() and lock_holder(workspace.state / "lock") is None:
        with suppress(OSError):  # they only save time
            workspace.save_hashes(hashes)
    show(decisions, config)
    return 0


def show(decisions: Sequence[Decision[Config]], config: Config) -> None:
    """Print one line per step, the reason wrapped below itself."""
    synthetic = ", synthetic" if config.data.synthetic else ""
    say(f"Plan for {config.training_mode} on {config.data.name}{synthetic}", "header")
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    longest = max(len(decision.step.name) for decision in decisions)
    for decision in decisions:
        say(_line(decision, longest, width))


def _line(decision: Decision[Config], longest: int, width: int) -> str:
    indent = longest + _GAP
    lines = textwrap.wrap(
        decision.reason, width - indent, break_on_hyphens=False, break_long_words=False
    ) or [""]
    action = paint(f"{decision.action.value:<7}", _TONES[decision.action])
    head = f"  {decision.step.name:<{longest}} {action}{lines[0]}"
    return "\n".join([head, *(" " * indent + line for line in lines[1:])])
