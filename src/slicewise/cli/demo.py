"""`slicewise demo status|stop`: the services that the last run started."""

import argparse
import shlex
from typing import NoReturn

from slicewise.cli import run
from slicewise.cli.invocation import command_for
from slicewise.cli.options import add_workspace_option, expand_words, workspace_from
from slicewise.core.console import say
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.workspace import Workspace
from slicewise.steps.demo import demo_url, stop


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


class _RaisingParser(argparse.ArgumentParser):
    """Raises ValueError where argparse would print and end the program."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _start_command(workspace: Workspace) -> str:
    """Return the command that serves the model of the last run; it repeats the settings of that run.

    With other settings the model would be out of date, and the command an error.
    """
    parser = _RaisingParser(allow_abbrev=False)
    run.add_arguments(parser)
    settings: list[str] = []
    try:
        words = shlex.split(read_json(workspace.root / RECORD_NAME)["command"])
        # The options follow `run`, or the script that stands for it.
        first = next(place for place, word in enumerate(words, 1) if word == "run" or word.endswith(".py"))
        args = parser.parse_intermixed_args(expand_words(words[first:]))
        if args.training_mode != parser.get_default("training_mode"):
            settings = ["--training-mode", args.training_mode]
        settings += [word for word in args.overrides if not word.startswith("split.folds=")]
    except (OSError, WorkspaceError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        pass  # no run yet, or the record is of another verb
    return command_for(workspace, "run", "--mode", "demo", *settings)
