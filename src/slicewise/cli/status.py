"""`slicewise status`: the output of each step, what made it, and the last run."""

import argparse
import time

from slicewise.cli.options import add_workspace_option, workspace_from
from slicewise.cli.watch import status_lines, watch
from slicewise.core.console import Tone, paint, say
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.engine.clean import outputs_not_installed
from slicewise.engine.lock import lock_holder
from slicewise.engine.progress import read_progress
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.workspace import HasHomes, Workspace
from slicewise.steps import stored_steps
from slicewise.steps.demo import demo_url


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)
    parser.add_argument("--watch", action="store_true", help="show the run in progress until it ends")


def execute(args: argparse.Namespace) -> int:
    workspace = workspace_from(args)
    if args.watch:
        return watch(workspace)
    steps = stored_steps(workspace)
    longest = max(len(step.name) for step in steps)
    for step in steps:
        state, tone, text = _describe(step, workspace)
        say(f"  {step.name:<{longest}} {paint(f'{state:<8}', tone)} {text}")
    waiting = outputs_not_installed(workspace, steps)
    num_superseded = sum(folder not in waiting for _, folder in workspace.shelved())
    if num_superseded:
        say(f"\n{num_superseded} superseded outputs on the shelf; `slicewise clean` deletes them", "dim")
    for name in dict.fromkeys(waiting.values()):
        say(f"\na finished output of {name} is not installed yet; the next run installs it", "warn")
    _show_last_run(workspace)
    return 0


def _describe(step: HasHomes, workspace: Workspace) -> tuple[str, Tone, str]:
    """Return the state of a step's output, its colour, and the details."""
    if not step.homes:
        url = demo_url(workspace)
        return ("running", "good", url) if url else ("stopped", "dim", "")
    receipt = workspace.home_receipt(step.homes)
    mismatches = list(workspace.mismatches(step.name, step.homes, receipt.fingerprint if receipt else None))
    if mismatches:
        return "damaged", "bad", mismatches[0]
    if receipt is None:
        return "none", "dim", "no output"
    output = workspace.find(step.name, step.homes, receipt.fingerprint)
    faults = list(workspace.faults(output)) if output else ["a part is missing"]
    made = f"{receipt.fingerprint[:12]}, made {receipt.report['made_at']}"
    if faults:
        return "damaged", "bad", f"{made}: {faults[0]}"
    seconds, homes = receipt.report["duration_seconds"], ", ".join(step.homes.values())
    return "ready", "good", f"{made} in {seconds:.1f} s -> {homes}"


def _show_last_run(workspace: Workspace) -> None:
    try:
        record = read_json(workspace.root / RECORD_NAME)
    except (FileNotFoundError, WorkspaceError):
        return
    names = ("command", "status", "started_at", "total_duration_seconds", "continue_with")
    if not isinstance(record, dict) or not record.keys() >= set(names):
        say(f"\n{RECORD_NAME} is damaged; the next run writes a new one", "warn")
        return
    command, status, started, seconds, continue_with = (record[name] for name in names)
    say(f"\nlast run: {command}")
    if status != "running":
        say(f"  {status}, started {started}, {seconds} s")
        if continue_with:
            say(f"  to continue: {continue_with}", "warn")
        return
    # The record of a killed run says `running` too; a later command that holds the lock keeps no record.
    holder = lock_holder(workspace.state / "lock")
    if holder is None or str(started) < holder.since:
        say(f"  killed, started {started}; finished steps are kept", "warn")
        say(f"  to continue: {continue_with or command}", "warn")
        return
    lines = status_lines(holder, read_progress(workspace.state), time.time())
    for line in lines[1:] or lines:  # the first repeats the command
        say(f"  {line}")
