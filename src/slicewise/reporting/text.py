"""`report.txt`: the facts of the page as plain text, from the same structures, without its pictures."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from slicewise.core.files import read_json
from slicewise.domain.scores import score_name
from slicewise.domain.tables import describe_counts, resampling_unit
from slicewise.evaluation.comparison.stage_gains import gain_text
from slicewise.reporting.html import MAX_PATIENTS, read_tables
from slicewise.reporting.run_info import ResultFolders, RunInfo
from slicewise.reporting.scores import (
    Score,
    collect_warnings,
    format_best_epoch,
    format_interval,
    format_number,
    format_p_value,
    get_decision,
    headline_scores,
    patient_level_scores,
    section_scores,
    segmentation_scores,
    selection_notes,
    shared_notes,
    untrained_scores,
    with_thresholds,
)

_WIDTH: Final = 100
Cells = Sequence[str]


def render_text(run: RunInfo, folders: ResultFolders) -> str:
    """Return the report: the same bytes for the same facts and files.

    Raises:
        WorkspaceError: a file of the evaluation is missing or damaged.
    """
    metrics, tables = read_json(folders.evaluation / "metrics.json"), read_tables(folders)
    synthetic = " (synthetic data)" if run.synthetic else ""
    parts = [
        [f"SliceWise report: {run.data_name}{synthetic}, {run.training_mode} training", "=" * _WIDTH],
        _warnings(run, metrics),
        _section("Summary", _sources(metrics, headline_scores)),
        _section("Training", _training(run)),
        _section("Scores on the test patients", _sources(metrics, _all_scores)),
        _section("The three stages on the same test slices", _stage_comparison(run, tables)),
        _section("Every test patient, worst first", _patients(tables, metrics)),
        _section("Failures", _failures(run, tables)),
        _section("Provenance", _provenance(run, metrics)),
    ]
    return "\n".join(line.rstrip() for part in parts for line in part) + "\n"


def _all_scores(found: Mapping[str, Any], missing: Sequence[str]) -> list[Score]:
    return [
        *untrained_scores(missing),
        *segmentation_scores(found["segmentation"]),
        *section_scores(found["classification"]),
        *patient_level_scores(found["patient_classification"]),
    ]


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("", title, "-" * _WIDTH)
    yield from lines


def _warnings(run: RunInfo, metrics: Mapping[str, Any]) -> Iterator[str]:
    for headline, explanation in collect_warnings(run, metrics):
        yield from textwrap.wrap(f"! {headline}. {explanation}", _WIDTH, subsequent_indent="  ")
    for note in selection_notes(metrics):
        yield from textwrap.wrap(f"! Choices: {note}", _WIDTH, subsequent_indent="  ")
    yield "Not a medical device: no figure here supports a decision about a person."


def _sources(
    metrics: Mapping[str, Any], read: Callable[[Mapping[str, Any], Sequence[str]], list[Score]]
) -> Iterator[str]:
    missing = metrics.get("not_trained", ())
    for source, found in metrics["sources"].items():
        yield f"{source}: {describe_counts(found['num_patients'], found['num_slices'])}"
        lines = with_thresholds(read(found, missing), get_decision(metrics, source))
        head = ("score", "value", "interval", resampling_unit(found), "")
        rows = [(line.name, line.value, line.interval, line.num_patients, line.note) for line in lines]
        yield from _table(head, rows)
        yield from (f"  {note}" for note in shared_notes(found))


def _training(run: RunInfo) -> Iterator[str]:
    head = ("stage", "epochs", "kept", "Dice", "AUC volumes", "AUC pictures", "minutes", "images/s", "device")
    stages = [step for step in run.steps if step.name.startswith("train.")]
    yield from _table(head, [_training_row(step.name, step.seconds, step.metrics) for step in stages])


def _training_row(name: str, seconds: float, metrics: Mapping[str, Any]) -> Cells:
    best = metrics["best_metrics"]
    speed = format_number(metrics["images_per_second"], 0)
    marks = [format_number(best.get(mark)) for mark in ("dice", "auc_volumes", "auc_pictures")]
    rest = (format_number(seconds / 60, 1), speed, str(metrics["device"]))
    return (name, str(metrics["epochs_run"]), format_best_epoch(metrics), *marks, *rest)


def _stage_comparison(run: RunInfo, tables: Mapping[str, Any]) -> Iterator[str]:
    head = ("source", "score", "stage", "value", "interval", "p", "patients/families", "")
    yield from _table(
        head,
        [
            (
                row.source,
                score_name(row),
                row.phase,
                format_number(row.value),
                format_interval(row.low, row.high),
                format_p_value(row.p_value),
                str(row.num_patients or "–"),
                row.note or "",
            )
            for row in tables["phases"]
        ],
    )
    for source, gains in run.judge.metrics.get("gains_of_joint", {}).items():
        yield f"{source}: {gain_text('joint', gains)}"


def _patients(tables: Mapping[str, Any], metrics: Mapping[str, Any]) -> Iterator[str]:
    calls_count = "classification" not in metrics.get("not_trained", ())
    head = (
        "source",
        "patient",
        "slices",
        "Dice",
        "NSD",
        "HD95 mm",
        "reference ml",
        "predicted ml",
        "accuracy",
    )
    rows = [
        (
            row.source,
            row.patient,
            str(row.num_slices),
            format_number(row.dice),
            format_number(row.nsd),
            format_number(row.hd95_mm, 1),
            format_number(row.reference_ml, 1),
            format_number(row.predicted_ml, 1),
            format_number(row.slice_accuracy if calls_count else None),
        )
        for row in tables["patients"]
    ]
    yield from _table(head, rows[:MAX_PATIENTS])
    if len(rows) > MAX_PATIENTS:
        yield f"  {MAX_PATIENTS} of {len(rows)}; the others stand in patients.csv"


def _failures(run: RunInfo, tables: Mapping[str, Any]) -> Iterator[str]:
    found = run.judge.metrics["failures"]
    yield (
        f"{found['num_slices']} slices and {found['num_patients']} patients failed: a Dice below "
        f"{found['dice_below']}, or, without a mask, a slice called wrongly."
    )
    head = ("level", "source", "trait", "failed", "rest", "effect", "strength")
    rows = [
        (
            row.level,
            row.source,
            row.trait,
            format_number(row.failed, 2),
            format_number(row.rest, 2),
            f"{row.effect:+.2f}",
            row.strength,
        )
        for row in tables["traits"]
    ]
    yield from _table(head, rows) if rows else ()


def _provenance(run: RunInfo, metrics: Mapping[str, Any]) -> Iterator[str]:
    yield f"command        {run.judge.command or 'not recorded'}"
    yield f"git commit     {run.judge.commit or 'none: not run from a checkout'}"
    yield f"configuration  {run.config_fingerprint}"
    seeds = ", ".join(f"{key} {value}" for key, value in run.seeds.items())
    yield f"seeds          {seeds}, bootstrap {metrics['intervals']['seed']}"
    yield f"split          {run.split_origin}"
    yield f"versions       {', '.join(f'{name} {version}' for name, version in run.judge.versions.items())}"
    yield f"reproduce      {run.reproduce}"
    head = ("step", "made", "seconds", "peak MiB", "fingerprint")
    rows = [
        (
            step.name,
            step.made_at,
            format_number(step.seconds, 1),
            str(step.memory_mib or "–"),
            step.fingerprint[:12],
        )
        for step in run.steps
    ]
    yield from _table(head, rows)


def _table(head: Cells, rows: Sequence[Cells]) -> Iterator[str]:
    """Yield columns as wide as their widest cell: names to the left, all between first and last aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  " + "  ".join(_printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True))


def _printable(text: str) -> str:
    """Replace what would break a line or a terminal: names come from foreign files."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
