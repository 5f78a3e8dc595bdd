"""`report.txt`: the content of the page as plain text, without its pictures."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from slicewise.core.files import read_json
from slicewise.evaluation.comparison.output import gain_text
from slicewise.reporting.content import MAX_PATIENTS, read_tables
from slicewise.reporting.run_info import ResultFolders, RunInfo
from slicewise.reporting.scores import (
    Score,
    SourceScores,
    format_best_epoch,
    format_number,
    source_scores,
)
from slicewise.reporting.warnings import collect_warnings, selection_notes

_WIDTH: Final = 100
Cells = Sequence[str]


def render_text(run: RunInfo, folders: ResultFolders) -> str:
    """Return the report: the same bytes for the same run and files.

    Raises:
        WorkspaceError: a file of the evaluation is missing or damaged.
    """
    metrics, tables = read_json(folders.evaluation / "metrics.json"), read_tables(folders)
    sources = source_scores(metrics)
    synthetic = " (synthetic data)" if run.synthetic else ""
    sections = {
        "Summary": (line for source in sources for line in _scores(source, source.headlines)),
        "Training": _training(run),
        "Scores on the test patients": (
            line for source in sources for line in _scores(source, source.details)
        ),
        "The training stages on the same test slices": _stage_comparison(run, tables),
        "Every test patient, worst first": _patients(tables, metrics),
        "Failures": _failures(run, tables),
        "Provenance": _provenance(run, metrics),
    }
    lines = [
        f"SliceWise report: {run.data_name}{synthetic}, {run.training_mode} training",
        "=" * _WIDTH,
        *_warnings(run, metrics),
        *(line for title, section in sections.items() for line in ("", title, "-" * _WIDTH, *section)),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _warnings(run: RunInfo, metrics: Mapping[str, Any]) -> Iterator[str]:
    warnings = [f"{headline}. {explanation}" for headline, explanation in collect_warnings(run, metrics)]
    for warning in (*warnings, *(f"Thresholds and calibration: {note}" for note in selection_notes(metrics))):
        yield from textwrap.wrap(f"! {warning}", _WIDTH, subsequent_indent="  ")
    yield "Not a medical device: nothing in this report supports a decision about a person."


def _scores(source: SourceScores, scores: Iterable[Score]) -> Iterator[str]:
    yield f"{source.name}: {source.cases}"
    rows = [(line.name, line.value, line.interval, line.num_patients, line.note) for line in scores]
    yield from _table(("score", "value", "interval", source.unit, ""), rows)
    yield from (f"  {note}" for note in source.notes)


def _training(run: RunInfo) -> Iterator[str]:
    steps = [step for step in run.steps if step.name.startswith("train.")]
    keys = dict.fromkeys(key for step in steps for key in step.metrics["best_metrics"])
    aucs = [key for key in keys if key.startswith("auc_")]
    head = (
        *("stage", "epochs", "best epoch", "Dice", *(key.replace("auc_", "AUC ") for key in aucs)),
        *("minutes", "images/s", "device"),
    )
    rows = [
        (
            step.name,
            str(step.metrics["epochs_run"]),
            format_best_epoch(step.metrics),
            *(format_number(step.metrics["best_metrics"].get(key)) for key in ("dice", *aucs)),
            format_number(step.seconds / 60, 1),
            format_number(step.metrics["images_per_second"], 0),
            str(step.metrics["device"]),
        )
        for step in steps
    ]
    return _table(head, rows)


def _stage_comparison(run: RunInfo, tables: Mapping[str, Any]) -> Iterator[str]:
    head = ("source", "score", "stage", "value", "interval", "p", "patients/families", "")
    yield from _table(head, tables["stage_comparison"])
    for source, gains in run.gains.items():
        yield f"{source}: {gain_text(run.final_stage, gains)}"


def _patients(tables: Mapping[str, Any], metrics: Mapping[str, Any]) -> Iterator[str]:
    is_classified = "classification" in metrics["tasks"]
    head = (
        *("source", "patient", "slices", "Dice", "NSD", "HD95 mm"),
        *("reference ml", "predicted ml", "accuracy"),
    )
    rows = [
        (
            row.source,
            row.patient,
            str(row.num_slices),
            format_number(row.dice),
            format_number(row.scores["nsd"]),
            format_number(row.scores["hd95_mm"], 1),
            format_number(row.reference_ml, 1),
            format_number(row.predicted_ml, 1),
            format_number(row.slice_accuracy if is_classified else None),
        )
        for row in tables["patients"]
    ]
    yield from _table(head, rows[:MAX_PATIENTS])
    if len(rows) > MAX_PATIENTS:
        yield f"  {MAX_PATIENTS} of {len(rows)}; all are in patients.csv"


def _failures(run: RunInfo, tables: Mapping[str, Any]) -> Iterator[str]:
    failures = run.evaluation_step.metrics["failures"]
    yield (
        f"{failures['num_slices']} slices and {failures['num_patients']} patients failed: a Dice below "
        f"{failures['dice_below']}, or, without a reference mask, a misclassified slice."
    )
    head = ("level", "source", "trait", "failed", "rest", "effect", "strength")
    rows = [
        (
            *(row.level, row.source, row.trait),
            *(format_number(row.failed, 2), format_number(row.rest, 2)),
            *(f"{row.effect:+.2f}", row.strength),
        )
        for row in tables["traits"]
    ]
    yield from _table(head, rows) if rows else ()


def _provenance(run: RunInfo, metrics: Mapping[str, Any]) -> Iterator[str]:
    step = run.evaluation_step
    seeds = ", ".join(f"{key} {value}" for key, value in run.seeds.items())
    yield f"command        {step.command or 'not recorded'}"
    yield f"git commit     {step.commit or 'none: not run from a checkout'}"
    yield f"configuration  {run.config_fingerprint}"
    yield f"seeds          {seeds}, bootstrap {metrics['intervals']['seed']}"
    yield f"split          {run.split_origin}"
    yield f"versions       {', '.join(f'{name} {version}' for name, version in step.versions.items())}"
    yield f"reproduce      {run.reproduce}"
    rows = [
        (
            *(step.name, step.made_at, format_number(step.seconds, 1)),
            *(str(step.memory_mib or "–"), step.fingerprint[:12]),
        )
        for step in run.steps
    ]
    yield from _table(("step", "made at (UTC)", "seconds", "peak MiB", "fingerprint"), rows)


def _table(head: Cells, rows: Sequence[Cells]) -> Iterator[str]:
    """Yield aligned lines. Unprintable characters become `?`, because names come from foreign files."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  " + "".join(letter if letter.isprintable() else "?" for letter in line)
