"""`slicewise clean`: delete superseded outputs; what is at home, or on its way there, stays."""

import argparse

from slicewise.cli.options import add_wait_option, add_workspace_option, workspace_from
from slicewise.core.console import say
from slicewise.core.disk import MIB
from slicewise.engine.clean import CleanResult, clean
from slicewise.engine.lock import exclusive_lock


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)
    parser.add_argument(
        "--unfinished", action="store_true", help="also delete the work from which stopped steps would go on"
    )
    add_wait_option(parser)


def execute(args: argparse.Namespace) -> int:
    from slicewise.steps import stored_steps
    from slicewise.workflow.slices import remove_unused_slices

    workspace = workspace_from(args)
    with exclusive_lock(workspace.state / "lock", args.wait):
        cleaned = clean(workspace, stored_steps(workspace), unfinished=args.unfinished)
        freed = cleaned.freed_bytes + remove_unused_slices(workspace)
    say(f"freed {freed / MIB:,.1f} MiB")
    _show_kept(cleaned)
    return 0


def _show_kept(cleaned: CleanResult) -> None:
    for step, size in cleaned.unfinished.items():
        say(f"kept the unfinished work of {step}, {size / MIB:,.1f} MiB; --unfinished deletes it", "dim")
    for step in cleaned.waiting:
        say(f"kept a finished output of {step} that has not come home yet; the next run brings it", "dim")
