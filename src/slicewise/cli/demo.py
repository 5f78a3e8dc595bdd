"""`slicewise demo status|stop`: the services that the last run started."""

import argparse

from slicewise.cli.options import add_workspace_option, workspace_from
from slicewise.core.console import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("status", "stop"))
    add_workspace_option(parser)


def execute(args: argparse.Namespace) -> int:
    from slicewise.steps.demo import address, stop

    workspace = workspace_from(args)
    url = address(workspace)
    if args.action == "stop":
        stop(workspace)
        say("demo stopped" if url else "no demo is running")
        return 0
    say(f"demo running at {url}" if url else "no demo is running; `slicewise run --mode demo` starts it")
    return 0 if url else 1
