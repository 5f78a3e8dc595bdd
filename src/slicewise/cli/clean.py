"""`slicewise clean`: delete superseded outputs; current and finished ones stay."""

import argparse

from slicewise.cli.options import add_wait_option, add_workspace_option, workspace_from
from slicewise.cluster.lease import refuse_beside_jobs
from slicewise.core.console import say
from slicewise.core.disk import MIB
from slicewise.engine.clean import clean
from slicewise.engine.lock import exclusive_lock
from slicewise.steps import stored_steps
from slicewise.workflow.slices import remove_unused_slices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)
    parser.add_argument(
        "--unfinished", action="store_true", help="also delete the work from which stopped steps would resume"
    )
    add_wait_option(parser)


def execute(args: argparse.Namespace) -> int:
    workspace = workspace_from(args)
    with exclusive_lock(workspace.state / "lock", args.wait):
        refuse_beside_jobs(workspace)
        steps = stored_steps(workspace)
        cleaned = clean(workspace, steps, unfinished=args.unfinished)
        freed = cleaned.freed_bytes + remove_unused_slices(workspace, steps)
    say(f"freed {freed / MIB:,.1f} MiB")
    for step, size in cleaned.unfinished.items():
        say(f"kept the unfinished work of {step}, {size / MIB:,.1f} MiB; --unfinished deletes it", "dim")
    for step in cleaned.waiting:
        say(f"kept a finished output of {step} that is not installed yet; the next run installs it", "dim")
    return 0
