"""`slicewise demo status|logs|stop`: the services that the last run or `slicewise serve` started."""

import argparse
import shlex
import time
from argparse import ArgumentError

from slicewise.cli import run
from slicewise.cli.options import add_workspace_option, command_for, expand_words, workspace_from
from slicewise.core.console import is_unread, say
from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.files import read_json
from slicewise.core.signals import EXIT_CODE
from slicewise.demo.logs import SERVICES, LogReader, log_path
from slicewise.demo.state import is_alive, read_state
from slicewise.domain.tables import plural
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.workspace import Workspace
from slicewise.steps.demo import LOG_DIR, service_home, stop

_UNREADABLE = (OSError, WorkspaceError, ValueError, LookupError, TypeError, AttributeError, ArgumentError)
"""No run yet, or a record that is damaged or of another verb."""
_NUM_LINES = 20
_POLL_SECONDS = 0.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("status", "logs", "stop"))
    text = "with logs: only those of this one (default: all)"
    parser.add_argument("service", nargs="?", choices=SERVICES, help=text)
    text = "with logs: go on with new lines until Ctrl-C"
    parser.add_argument("--follow", action="store_true", help=text)
    text = f"with logs: the last N lines of each (default: {_NUM_LINES})"
    parser.add_argument("--lines", type=int, metavar="N", help=text)
    add_workspace_option(parser)


def execute(args: argparse.Namespace) -> int:
    workspace = workspace_from(args)
    if args.action == "logs":
        return _show_logs(workspace, args)
    if args.service or args.follow or args.lines is not None:
        raise UsageError(f"a service, --follow and --lines go with `demo logs`, not with {args.action}")
    if args.action == "status":
        return _show_status(workspace)
    if stop(workspace):
        say("demo stopped")
        return 0
    return _say_that_none_runs(workspace)


def _show_status(workspace: Workspace) -> int:
    from slicewise.demo.lifecycle import current_state

    home, logs = service_home(workspace), command_for(workspace, "demo", "logs")
    state = current_state(home)
    if state is not None and is_alive(home):
        say(f"demo running at {state.url}")
        for service in state.services:
            say(f"  {service.name:<5} {service.url}, {plural(service.restarts, 'restart')}")
        supervisor = "PM2" if state.kind == "pm2" else "SliceWise"
        say(f"supervised by {supervisor}; its logs: {logs}")
        return 0
    if state is None:
        return _say_that_none_runs(workspace)
    down = [service.name for service in state.services if not service.is_healthy]
    say(state.error or f"no response from {' and '.join(down) or 'the model'}; the logs: {logs}", "warn")
    return _say_that_none_runs(workspace) if state.error or len(down) == len(state.services) else 1


def _say_that_none_runs(workspace: Workspace) -> int:
    say(f"no demo of {workspace.root.absolute()} is running; to start it: {_start_command(workspace)}")
    return 1


def _show_logs(workspace: Workspace, args: argparse.Namespace) -> int:
    """Print the last lines of the logs and, with --follow, new ones until Ctrl-C."""
    lines = _NUM_LINES if args.lines is None else args.lines
    if lines < 0:
        raise UsageError(f"--lines {lines} is negative; give the number of lines of each log")
    state = read_state(service_home(workspace))
    if state is not None and not state.services[0].log_path:
        say("this demo runs in the foreground: its logs are the output of `slicewise serve`")
        return 1
    names = [args.service] if args.service else SERVICES
    readers = {name: LogReader(log_path(workspace.root / LOG_DIR, name)) for name in names}
    readers = {name: reader for name, reader in readers.items() if reader.path.exists()}
    if not readers:
        what = f"log of the {args.service}" if args.service else "logs of a demo"
        say(f"no {what} in {(workspace.root / LOG_DIR).absolute()}")
        return _say_that_none_runs(workspace) if state is None else 1
    width = max(map(len, readers)) if len(readers) > 1 else 0
    for name, reader in readers.items():
        say(f"{name}: {reader.path}", "header")
        _print_lines(name, reader.tail(lines), width)
    try:
        while args.follow and not is_unread():
            time.sleep(_POLL_SECONDS)
            for name, reader in readers.items():
                _print_lines(name, reader.lines(), width)
    except KeyboardInterrupt:
        return EXIT_CODE
    return 0


def _print_lines(name: str, lines: list[str], width: int) -> None:
    for line in lines:
        say(f"{name:<{width}} | {line}".rstrip() if width else line)


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
