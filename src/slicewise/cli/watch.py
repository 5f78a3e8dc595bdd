"""`slicewise status --watch`: the progress of a run, from another terminal, until it ends."""

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from slicewise.core.console import is_terminal, is_unread, paint, replace_lines, say
from slicewise.core.disk import MIB
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.engine.lease import Holder
from slicewise.engine.lock import lock_holder
from slicewise.engine.peak_memory import resident_bytes
from slicewise.engine.progress import read_progress
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.workspace import Workspace

_INTERVAL_SECONDS = 1.0
_BAR_WIDTH = 24


def watch(workspace: Workspace) -> int:
    """Show what runs in the workspace until it ends; return 0 if that ended well, or if nothing runs."""
    holder = lock_holder(workspace.state / "lock")
    if holder is None:
        say("nothing runs in this workspace")
        return 0
    screen = _Screen()
    started = holder.since
    while holder is not None and not is_unread():
        screen.show(status_lines(holder, read_progress(workspace.state), time.time()))
        time.sleep(_INTERVAL_SECONDS)
        holder = lock_holder(workspace.state / "lock")
    return 0 if is_unread() else _show_end(workspace, started)


def status_lines(holder: Holder, progress: Mapping[str, Any] | None, now: float) -> list[str]:
    """Return the lines of the screen: command and process, step, progress, times and memory."""
    if progress is None:
        return [f"{holder}: starting, or working without a progress bar"]
    lines = [f"{progress['command']}  ({holder})"]
    step, job = progress["step"], progress["job"]
    if step is not None:
        lines.append(f"{step['name']}: {step['reason']}")
    if job is not None:
        lines.append(_job_line(job))
    parts = [f"elapsed {_clock(now - progress['started'])}"]
    if step is not None:
        parts.append(f"step {_clock(now - step['started'])}")
    remaining = seconds_left(job, now)
    if remaining is not None:
        parts.append(f"{job['desc']} ends in about {_clock(remaining)}")
    memory = resident_bytes(holder.pid) if holder.is_here() else None  # unknown on another machine
    if memory is not None:
        parts.append(f"memory {memory / MIB:,.0f} MiB")
    return [*lines, ", ".join(parts)]


def _job_line(job: Mapping[str, Any]) -> str:
    done, total = job["done"], job["total"]
    if not total:
        return f"{job['desc']}  {_amount(done, job['unit'])}"
    filled = int(_BAR_WIDTH * min(1.0, done / total))
    bar = "#" * filled + "-" * (_BAR_WIDTH - filled)
    count = f"{_amount(done, job['unit'], short=True)} of {_amount(total, job['unit'])}"
    return "  ".join(filter(None, [job["desc"], f"[{bar}]", count, job["note"]]))


def _amount(value: float, unit: str, *, short: bool = False) -> str:
    if unit == "B":
        return f"{value / MIB:,.1f}" + ("" if short else " MiB")
    return f"{value:,.0f}" + ("" if short else f" {unit}")


def seconds_left(job: Mapping[str, Any] | None, now: float) -> float | None:
    """Return the seconds that a job still needs at its mean speed so far; None where unknown."""
    if job is None or not job["total"] or job["done"] <= job["initial"]:
        return None
    speed = (job["done"] - job["initial"]) / max(now - job["started"], 1e-9)
    return float(max(0.0, (job["total"] - job["done"]) / speed))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Screen:
    """Lines that replace the previous ones on a terminal; elsewhere, one line per change."""

    def __init__(self) -> None:
        self._in_place = is_terminal(sys.stdout)
        self._lines: list[str] = []

    def show(self, lines: list[str]) -> None:
        if not self._in_place:
            lines = [" | ".join(lines[1:-1]) or lines[0]]
            if lines != self._lines:
                say(lines[0])
        else:
            width = shutil.get_terminal_size().columns - 1
            lines = [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]
            replace_lines(len(self._lines), "\n".join([paint(lines[0], "header"), *lines[1:]]))
        self._lines = lines


def _show_end(workspace: Workspace, since: str) -> int:
    """Print how the run ended and return the exit code; a command without a record (verify) just ended."""
    try:
        record = read_json(workspace.root / RECORD_NAME)
        # An older record, of a killed run perhaps, says nothing about a command without one.
        status = record["status"] if record["started_at"] >= since else "ended"
    except (FileNotFoundError, WorkspaceError, KeyError, TypeError):
        status = "ended"
    if status == "running":  # though nobody holds the lock any more
        status = "killed"
    is_good = status in ("completed", "ended")
    say(f"the run {status}", "good" if is_good else "bad")
    return 0 if is_good else 1
