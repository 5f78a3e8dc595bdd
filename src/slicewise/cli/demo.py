"""`slicewise demo status|stop`: the services that the last run started."""

import argparse
import shlex
from typing import NoReturn

from slicewise.cli.invocation import command_for
from slicewise.cli.options import add_workspace_option, workspace_from
from slicewise.core.console import say
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("status", "stop"))
    add_workspace_option(parser)


def execute(args: argparse.Namespace) -> int:
    from slicewise.steps.demo import demo_url, stop

    workspace = workspace_from(args)
    url = demo_url(workspace)
    if args.action == "stop" and stop(workspace):
        say("demo stopped")
        return 0
    if url:
        say(f"demo running at {url}")
        return 0
    say(f"no demo of {workspace.root.absolute()} is running; to start it: {_start_command(workspace)}")
    return 1


def _start_command(workspace: Workspace) -> str:
    """Return the command that serves the network of the last run: with other settings it would be refused."""
    try:
        record = read_json(workspace.root / RECORD_NAME)
        typed = shlex.split(record["command"])
        words = _settings(typed[_first_option(typed) :])
    except (OSError, WorkspaceError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        words = []  # no run yet, or by another verb
    return command_for(workspace, "run", "--mode", "demo", *words)


def _first_option(typed: list[str]) -> int:
    """Return where the options begin: after `run`, or after the script that stands for it."""
    places = (place for place, word in enumerate(typed) if word == "run" or word.endswith(".py"))
    return next(places) + 1


class _RaisingParser(argparse.ArgumentParser):
    """Raises where another one would print and end the program."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _settings(typed: list[str]) -> list[str]:
    """Return the words of a run that set keys; which steps it ran is no matter here."""
    from slicewise.cli import run

    parser = _RaisingParser(allow_abbrev=False)
    run.add_arguments(parser)
    args = parser.parse_intermixed_args(typed)
    default_mode: str = parser.get_default("training_mode")
    mode = [] if args.training_mode == default_mode else ["--training-mode", args.training_mode]
    return [*mode, *(word for word in args.overrides if not word.startswith("split.folds="))]
