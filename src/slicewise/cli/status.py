"""`slicewise status`: what is there and what made it."""

import argparse
import time
from collections.abc import Sequence

from slicewise.cli.options import add_workspace_option, workspace_from
from slicewise.cli.watch import status_lines, watch
from slicewise.config.schema import Config
from slicewise.core.console import Tone, paint, say
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.engine.clean import outputs_not_installed
from slicewise.engine.lock import lock_holder
from slicewise.engine.progress import read_progress
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.step import Step
from slicewise.engine.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)
    parser.add_argument("--watch", action="store_true", help="show the run that is under way until it ends")


def execute(args: argparse.Namespace) -> int:
    from slicewise.steps import stored_steps

    workspace = workspace_from(args)
    if args.watch:
        return watch(workspace)
    steps = stored_steps(workspace)
    longest = max(len(step.name) for step in steps)
    for step in steps:
        state, tone, text = _describe(step, workspace)
        say(f"  {step.name:<{longest}} {paint(f'{state:<8}', tone)} {text}")
    _show_shelf(workspace, steps)
    _show_last_run(workspace)
    return 0


def _show_shelf(workspace: Workspace, steps: Sequence[Step[Config]]) -> None:
    waiting = outputs_not_installed(workspace, steps)
    num_superseded = sum(folder not in waiting for _, folder in workspace.shelved())
    if num_superseded:
        say(f"\n{num_superseded} superseded outputs on the shelf; `slicewise clean` deletes them", "dim")
    for name in dict.fromkeys(waiting.values()):
        say(f"\na finished output of {name} has not come home yet; the next run brings it", "warn")


def _describe(step: Step[Config], workspace: Workspace) -> tuple[str, Tone, str]:
    if not step.homes:
        return _service(workspace)
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
    return (
        "ready",
        "good",
        f"{made} in {receipt.report['duration_seconds']:.1f} s -> {', '.join(step.homes.values())}",
    )


def _service(workspace: Workspace) -> tuple[str, Tone, str]:
    from slicewise.steps.demo import demo_url

    url = demo_url(workspace)
    return ("running", "good", url) if url else ("stopped", "dim", "")


def _show_last_run(workspace: Workspace) -> None:
    try:
        record = read_json(workspace.root / RECORD_NAME)
    except (FileNotFoundError, WorkspaceError):
        return
    names = ("command", "status", "started_at", "total_duration_seconds", "continue_with")
    if not isinstance(record, dict) or not record.keys() >= set(names):
        say(f"\n{RECORD_NAME} is damaged; the next run writes it anew", "warn")
        return
    command, status, started, seconds, continue_with = (record[name] for name in names)
    say(f"\nlast run: {command}")
    if status == "running":
        _show_unfinished(workspace, continue_with or command, started)
        return
    say(f"  {status}, started {started}, {seconds} s")
    if continue_with:
        say(f"  to continue: {continue_with}", "warn")


def _show_unfinished(workspace: Workspace, continue_with: str, started: str) -> None:
    """Tell a run that is at work from one that was killed: the record of both says `running`."""
    holder = lock_holder(workspace.state / "lock")
    if holder is None or str(started) < holder.since:  # who holds it came later, and keeps no record
        say(f"  killed, started {started}; finished steps are kept", "warn")
        say(f"  to continue: {continue_with}", "warn")
        return
    lines = status_lines(holder, read_progress(workspace.state), time.time())
    for line in lines[1:] or lines:  # the first repeats the command
        say(f"  {line}")
