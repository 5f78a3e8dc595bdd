"""`slicewise clean`: delete superseded outputs and unfinished work; what is at home stays."""

import argparse

from slicewise.cli.options import add_wait_option, add_workspace_option, workspace_from
from slicewise.core.console import say
from slicewise.core.storage import MIB
from slicewise.pipeline.lock import exclusive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)
    add_wait_option(parser)


def execute(args: argparse.Namespace) -> int:
    from slicewise.steps.slices import remove_unused

    workspace = workspace_from(args)
    with exclusive(workspace.state / "lock", args.wait):
        freed = workspace.clean() + remove_unused(workspace)
    say(f"freed {freed / MIB:,.1f} MiB")
    return 0
