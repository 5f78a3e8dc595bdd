"""`slicewise cancel`: end the jobs of `slicewise run --on ...`; what they have finished stays."""

import argparse

from slicewise.cli.options import add_workspace_option, workspace_from
from slicewise.cluster.plan import newest_plan
from slicewise.cluster.submit import cancel
from slicewise.core.console import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)


def execute(args: argparse.Namespace) -> int:
    folder = newest_plan(workspace_from(args))
    if folder is None or folder.has_ended:
        say("no jobs work in this workspace")
        return 0
    tasks = cancel(folder)
    say(
        f"plan {folder.number} has ended, {len(tasks)} tasks were taken out of the queue; finished work is "
        "kept, and the same run continues from there",
        "good",
    )
    return 0
