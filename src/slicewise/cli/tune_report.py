"""What `slicewise tune` leaves in results/tune: table, figures, the winner, and its worth on test."""

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slicewise.cli import options
from slicewise.config.export import to_yaml
from slicewise.config.schema import Config
from slicewise.config.schema.base import plain
from slicewise.core.console import say
from slicewise.core.files import write_json, write_text
from slicewise.engine.record import git_commit, package_versions
from slicewise.engine.workspace import Workspace
from slicewise.workflow.tuning import TrialResult, TrialRow, TuningStudy

if TYPE_CHECKING:
    from slicewise.evaluation.runs import Run

OUT: Final = "results/tune"


def write_report(
    workspace: Workspace,
    args: argparse.Namespace,
    base: Config,
    best: Config,
    study: TuningStudy,
    default: TrialResult,
    winner: TrialRow,
) -> None:
    """Write trials.csv, tune.json, best.yaml, history.png and importance.png, and print the winner."""
    from slicewise.plots.tuning import Point, draw_history, draw_importance

    folder, rows, synthetic = workspace.home(OUT), study.rows(), base.data.synthetic
    label, shares = score_label(base), study.importance()
    points = [
        Point(row.number, row.result.score, row.result.state == "pruned")
        for row in rows
        if row.result.score is not None
    ]
    assert default.score is not None
    assert winner.result.score is not None
    draw_history(folder / "history.png", points, default.score, label, synthetic=synthetic)
    if shares:
        draw_importance(folder / "importance.png", shares, synthetic=synthetic)
    else:
        (folder / "importance.png").unlink(missing_ok=True)
    command, margin = options.command_line(args), winner.result.score - default.score
    title = f"trial {winner.number} of {len(rows)}" if winner.number else "the default recipe"
    head = f"# The winner of `{command}`: {title}, {label} {winner.result.score:.4f}\n"
    write_text(folder / "best.yaml", head + to_yaml(plain(best)))
    write_text(folder / "trials.csv", _table(rows, default))
    write_json(
        folder / "tune.json",
        {
            "command": command,
            "score": label,
            "num_trials": {state: sum(row.result.state == state for row in rows) for state in _STATES},
            "default": _to_json(default),
            "winner": {"number": winner.number, "values": winner.values, **_to_json(winner.result)},
            "margin": margin,
            "importance": shares,
            "trials": [{"number": row.number, "values": row.values, **_to_json(row.result)} for row in rows],
            "data": base.data.name,
            "synthetic": synthetic,
            "split_seed": base.split.seed,
            "git_commit": git_commit(Path(__file__)),
            "versions": package_versions(),
        },
    )
    _show(workspace, rows, winner, default, label, has_importance=bool(shares))


_STATES: Final = ("complete", "pruned", "failed")


def score_label(config: Config) -> str:
    """Return what a trial is scored by."""
    stage = config.stages[config.final_stage]
    names = stage.monitors or tuple(
        name
        for name, task in (("dice", "segmentation"), ("auc", "classification"))
        if task in config.tasks.names
    )
    return f"validation {'+'.join(names)} of {config.final_stage}"


def _to_json(result: TrialResult) -> dict[str, Any]:
    return {name: value for name, value in asdict(result).items() if name != "fingerprint" or value}


def _table(rows: Sequence[TrialRow], default: TrialResult) -> str:
    stream = io.StringIO()
    names = list(rows[0].values) if rows else []
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["trial", "state", "score", "epochs", "seconds", *names, "reason"])
    for row in (TrialRow(0, {}, default), *rows):
        result = row.result
        score = "" if result.score is None else f"{result.score:.6f}"
        values = [row.values.get(name, "") for name in names]
        number = row.number or "default"
        table.writerow(
            [number, result.state, score, result.epochs, f"{result.seconds:.1f}", *values, result.reason]
        )
    return stream.getvalue()


def _show(
    workspace: Workspace,
    rows: Sequence[TrialRow],
    winner: TrialRow,
    default: TrialResult,
    label: str,
    *,
    has_importance: bool,
) -> None:
    counts = ", ".join(
        f"{number} {state}" for state in _STATES if (number := sum(row.result.state == state for row in rows))
    )
    say(f"\n{len(rows)} trials: {counts}", "header")
    assert default.score is not None
    assert winner.result.score is not None
    if winner.number:
        score, margin = winner.result.score, winner.result.score - default.score
        say(f"winner: trial {winner.number}, {label} {score:.4f}, {margin:+.4f} over the default", "good")
        for name, text in winner.values.items():
            say(f"  {name}={text}")
    else:
        say(f"no trial was better than the default recipe, {label} {default.score:.4f}", "warn")
    say(
        "the highest of several scores is so by luck as well; --evaluate-winner tests it on other patients",
        "dim",
    )
    figures = ["history.png", *(["importance.png"] if has_importance else [])]
    for name in ("best.yaml", "trials.csv", "tune.json", *figures):
        say(f"  {OUT}/{name}", "dim")
    run = options.command_for(workspace, "run", "--config", str(workspace.home(OUT) / "best.yaml"))
    say(f"to use it: {run}")


def compare_on_test(
    workspace: Workspace, args: argparse.Namespace, config: Config, runs: "Sequence[Run]"
) -> None:
    """Write and print the paired difference of the winner and the default recipe on the test patients."""
    from slicewise.evaluation.comparison import to_text, write_comparison
    from slicewise.evaluation.runs import compare_runs

    rows, notes = compare_runs(runs)
    write_comparison(
        workspace.home(OUT),
        "test",
        rows,
        "The default recipe and the winner on the same test patients",
        [run.variant for run in runs],
        synthetic=config.data.synthetic,
        command=options.command_line(args),
        git_commit=git_commit(Path(__file__)),
        training_mode=config.training_mode,
        data=config.data.name,
        split_seed=config.split.seed,
        compared_with="default",
    )
    say()
    say("\n".join([*to_text(rows), *notes]))
    say(f"  {OUT}/test.csv, .json, .md and .png", "dim")
