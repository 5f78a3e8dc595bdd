"""`slicewise demo status|stop`: the services that the last run started."""

import argparse
import shlex
from argparse import ArgumentError

from slicewise.cli import run
from slicewise.cli.options import add_workspace_option, command_for, expand_words, workspace_from
from slicewise.core.console import say
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.workspace import Workspace
from slicewise.steps.demo import demo_url, stop

_UNREADABLE = (OSError, WorkspaceError, ValueError, LookupError, TypeError, AttributeError, ArgumentError)
"""No run yet, or a record that is damaged or of another verb."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("status", "stop"))
    add_workspace_option(parser)


def execute(args: argparse.Namespace) -> int:
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
    """Return the command that serves the model of the last run; it repeats the settings of that run.

    With other settings the model would be out of date, and the command an error.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    run.add_arguments(parser)
    settings: list[str] = []
    try:
        words = shlex.split(read_json(workspace.root / RECORD_NAME)["command"])
        # The options follow `run`, or the script that stands for it.
        first = [word == "run" or word.endswith(".py") for word in words].index(True)
        args, unknown = parser.parse_known_intermixed_args(expand_words(words[first + 1 :]))
        if not unknown and args.training_mode != parser.get_default("training_mode"):
            settings = ["--training-mode", args.training_mode]
        if not unknown:
            settings += [word for word in args.overrides if not word.startswith("split.folds=")]
    except _UNREADABLE:
        pass
    return command_for(workspace, "run", "--mode", "demo", *settings)
