"""The summary of all killed runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.chaos.runs import TARGETS, Attempt, Run, Usual


def summarise(usual: Usual, runs: Sequence[Run]) -> dict[str, Any]:
    """Return the figures as plain JSON.

    `seconds_lost_per_kill` is the time of all starts beyond that of as many uninterrupted runs; it includes
    the start of Python and torch (`seconds_to_start`). As most runs get their patients ready-made, the whole
    download step counts as lost.
    """
    attempts = [attempt for run in runs for attempt in run.attempts]
    kills = [attempt for attempt in attempts if attempt.was_killed]
    spent = sum(attempt.seconds for attempt in attempts)
    needed = len(runs) * (usual.seconds - usual.step_seconds.get("download", 0.0))
    return {
        "runs": len(runs),
        "kills": len(kills),
        "kills_per_step": _per_step(kills),
        "kills_at_a_write": sum(bool(kill.event) for kill in kills),
        "kills_per_kind_of_write": dict(Counter(kill.event for kill in kills if kill.event)),
        "starts": len(attempts),
        "unexpected_ends": sum(attempt.code not in (0, -9) for attempt in attempts),
        "runs_that_differ": sum(bool(run.mismatches) for run in runs),
        "mismatches": {run.number: run.mismatches for run in runs if run.mismatches},
        "unsound_after_a_kill": sorted({fault for kill in kills for fault in kill.faults}),
        "leftovers": {run.number: run.leftovers for run in runs if run.leftovers},
        "seconds_uninterrupted": round(usual.seconds, 1),
        "seconds_to_start": round(usual.seconds - sum(usual.step_seconds.values()), 1),
        "seconds_of_all_starts": round(spent, 1),
        "seconds_lost_per_kill": round((spent - needed) / max(1, len(kills)), 1),
        "outputs_compared": len(usual.outputs),
        "details": [asdict(run) for run in runs],
    }


def _per_step(kills: Sequence[Attempt]) -> dict[str, int]:
    counts = Counter(kill.step for kill in kills)
    return {name: counts[name] for name in (*TARGETS[1:], "between steps")}


def is_clean(figures: dict[str, Any]) -> bool:
    """Whether every run ended like the uninterrupted one."""
    bad = ("unexpected_ends", "runs_that_differ", "unsound_after_a_kill", "leftovers")
    return not any(figures[name] for name in bad)


def table(figures: dict[str, Any]) -> str:
    rows = [(name, figures[name]) for name in figures if name not in ("details", "kills_per_step")]
    rows += [(f"kills in {name}", count) for name, count in figures["kills_per_step"].items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.replace('_', ' '):<{width}}  {value}" for name, value in rows)
