"""`slicewise status`: the output of each step, what made it, the last run, its jobs; `--watch` follows it."""

import argparse
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from slicewise.cli.options import add_workspace_option, workspace_from
from slicewise.cluster.lease import active_plan
from slicewise.cluster.plan import PlanFolder
from slicewise.cluster.progress import PlanProgress, describe, read_plan_progress, remarks, summarise
from slicewise.core.activity import read_progress
from slicewise.core.console import Tone, is_terminal, is_unread, paint, replace_lines, say
from slicewise.core.disk import MIB
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.core.machine import resident_bytes
from slicewise.engine.clean import outputs_not_installed
from slicewise.engine.lock import Holder, lock_holder
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.workspace import HasHomes, Workspace
from slicewise.steps import stored_steps
from slicewise.steps.demo import demo_url

_INTERVAL_SECONDS = 1.0
_JOBS_INTERVAL_SECONDS = 3.0
"""Between two questions to the queue, which many ask"""
_BAR_WIDTH = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)
    parser.add_argument(
        "--watch", action="store_true", help="show the run or the jobs in progress until they end"
    )


def execute(args: argparse.Namespace) -> int:
    workspace = workspace_from(args)
    if args.watch:
        return _watch(workspace)
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
    if folder := active_plan(workspace):
        progress = read_plan_progress(folder)
        for line in ("", *describe(folder, progress), *remarks(folder), *_advice(folder, progress)):
            say(line)
    return 0


def _describe(step: HasHomes, workspace: Workspace) -> tuple[str, Tone, str]:
    """Return the state of a step's output, its colour, and the details."""
    if not step.homes:
        url = demo_url(workspace)
        return ("running", "good", url) if url else ("stopped", "dim", "")
    receipt = workspace.home_receipt(step)
    mismatches = list(workspace.mismatches(step, receipt.fingerprint if receipt else None))
    if mismatches:
        return "damaged", "bad", mismatches[0]
    if receipt is None:
        return "none", "dim", "no output"
    output = workspace.find(step, receipt.fingerprint)
    faults = list(workspace.faults(output)) if output else ["a part is missing"]
    made = f"{receipt.fingerprint[:12]}, made {receipt.report.made_at}"
    if faults:
        return "damaged", "bad", f"{made}: {faults[0]}"
    seconds, homes = receipt.report.duration_seconds, ", ".join(step.homes.values())
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
    holder = lock_holder(workspace.state / "lock") if status == "running" else None
    # The record of a killed run says `running` too; a later command that holds the lock keeps no record.
    if holder and str(started) >= holder.since:
        lines = status_lines(holder, read_progress(workspace.state), time.time())
        for line in lines[1:] or lines:  # the first repeats the command
            say(f"  {line}")
    elif status == "running":
        say(f"  killed, started {started}; finished steps are kept", "warn")
        say(f"  to continue: {continue_with or command}", "warn")
    else:
        say(f"  {status}, started {started}, {seconds} s")
        if continue_with:
            say(f"  to continue: {continue_with}", "warn")


def _watch(workspace: Workspace) -> int:
    """Show what runs in the workspace until it ends; return 0 if that ended well, or if nothing runs."""
    holder = lock_holder(workspace.state / "lock")
    if holder is None:
        folder = active_plan(workspace)
        if folder is not None:
            return _watch_jobs(folder)
        say("nothing runs in this workspace")
        return 0
    started = holder.since
    shown: list[str] = []
    while holder is not None and not is_unread():
        lines = status_lines(holder, read_progress(workspace.state), time.time())
        shown = _redraw(lines, " | ".join(lines[1:-1]) or lines[0], shown)
        time.sleep(_INTERVAL_SECONDS)
        holder = lock_holder(workspace.state / "lock")
    return 0 if is_unread() else _show_end(workspace, started)


def _redraw(lines: list[str], summary: str, shown: list[str]) -> list[str]:
    """Show lines in place of those that were shown, or off a terminal the summary where it has changed."""
    if is_terminal(sys.stdout):
        width = shutil.get_terminal_size().columns - 1
        lines = [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]
        replace_lines(len(shown), "\n".join([paint(lines[0], "header"), *lines[1:]]))
        return lines
    if [summary] != shown:
        say(summary)
    return [summary]


def _watch_jobs(folder: PlanFolder) -> int:
    """Show the jobs of a plan until they have ended; leaving it (Ctrl-C) leaves them running."""
    shown: list[str] = []
    while not is_unread():
        progress = read_plan_progress(folder)
        if not (progress.is_active or progress.is_complete):  # a task that ends may be in neither place
            time.sleep(_INTERVAL_SECONDS)
            progress = read_plan_progress(folder)
        lines = [*describe(folder, progress), *remarks(folder)]
        shown = _redraw(lines, summarise(progress), shown)
        if not progress.is_active or folder.has_ended:
            for line in _advice(folder, progress):
                say(line, "good" if progress.is_complete else "bad")
            return 0 if progress.is_complete else 1
        time.sleep(_JOBS_INTERVAL_SECONDS)
    return 0


def _advice(folder: PlanFolder, progress: PlanProgress) -> list[str]:
    """Return what to do once nothing waits or runs any more."""
    if progress.is_active:
        return []
    if progress.is_complete:
        return ["all jobs are done; the same run again shows the results"]
    return [
        f"some jobs did not end well; their output is in {folder.workspace.relative(folder.logs)}. The same "
        "run again submits what is missing"
    ]


def status_lines(holder: Holder, progress: Mapping[str, Any] | None, now: float) -> list[str]:
    """Return the lines of the screen: command and process, step, progress, times and memory."""
    if progress is None:
        return [f"{holder}: starting, or working without a progress bar"]
    step, job = progress["step"], progress["job"]
    lines = [f"{progress['command']}  ({holder})"]
    parts = [f"elapsed {_clock(now - progress['started'])}"]
    if step is not None:
        lines.append(f"{step['name']}: {step['reason']}")
        parts.append(f"step {_clock(now - step['started'])}")
    if job is not None:
        lines.append(_job_line(job))
        if (remaining := seconds_left(job, now)) is not None:
            parts.append(f"{job['desc']} ends in about {_clock(remaining)}")
    memory = resident_bytes(holder.pid) if holder.is_here() else None  # unknown on another machine
    if memory is not None:
        parts.append(f"memory {memory / MIB:,.0f} MiB")
    return [*lines, ", ".join(parts)]


def _job_line(job: Mapping[str, Any]) -> str:
    done, total, unit = job["done"], job["total"], job["unit"]
    scale, digits, unit = (MIB, 1, "MiB") if unit == "B" else (1, 0, unit)
    if not total:
        return f"{job['desc']}  {done / scale:,.{digits}f} {unit}"
    filled = int(_BAR_WIDTH * min(1.0, done / total))
    bar = "#" * filled + "-" * (_BAR_WIDTH - filled)
    count = f"{done / scale:,.{digits}f} of {total / scale:,.{digits}f} {unit}"
    return "  ".join(filter(None, [job["desc"], f"[{bar}]", count, job["note"]]))


def seconds_left(job: Mapping[str, Any], now: float) -> float | None:
    """Return the seconds that a job still needs at its mean speed so far; None where unknown."""
    if not job["total"] or job["done"] <= job["initial"]:
        return None
    speed = (job["done"] - job["initial"]) / max(now - job["started"], 1e-9)
    return float(max(0.0, (job["total"] - job["done"]) / speed))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _show_end(workspace: Workspace, since: str) -> int:
    """Print how the run ended and return the exit code; a command without a record (verify) just ended."""
    try:
        record = read_json(workspace.root / RECORD_NAME)
        # An older record, of a killed run perhaps, says nothing about a command without one.
        status = record["status"] if record["started_at"] >= since else "ended"
    except (FileNotFoundError, WorkspaceError, KeyError, TypeError):
        status = "ended"
    if status == "running":  # though no process holds the lock any more
        status = "killed"
    is_good = status in ("completed", "ended")
    say(f"the run {status}", "good" if is_good else "bad")
    return 0 if is_good else 1
