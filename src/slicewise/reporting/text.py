"""`report.txt`: the facts of the page as plain text, from the same structures, without its pictures."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from slicewise.core.files import read_json
from slicewise.evaluation.gains import gain_text
from slicewise.evaluation.phase_report import score_name
from slicewise.evaluation.rows import population, unit_of
from slicewise.reporting.facts import Folders, RunFacts
from slicewise.reporting.page import MOST_PATIENTS, tables_of
from slicewise.reporting.scores import (
    Score,
    choice_notes,
    decision_of,
    headlines,
    interval_text,
    kept_epoch,
    number,
    p_text,
    scores,
    segmentation_lines,
    shared_notes,
    untrained,
    warnings,
    whole_patients,
    with_conditions,
)

_WIDTH: Final = 100
Cells = Sequence[str]


def render_text(run: RunFacts, folders: Folders) -> str:
    """Return the report: the same bytes for the same facts and files.

    Raises:
        WorkspaceError: a file of the evaluation is missing or damaged.
    """
    metrics, tables = read_json(folders.evaluation / "metrics.json"), tables_of(folders)
    synthetic = " (synthetic data)" if run.synthetic else ""
    parts = [
        [f"SliceWise report: {run.data_name}{synthetic}, {run.training_mode} training", "=" * _WIDTH],
        _warnings(run, metrics),
        _section("Summary", _sources(metrics, headlines)),
        _section("Training", _training(run)),
        _section("Scores on the test patients", _sources(metrics, _all_scores)),
        _section("The three stages on the same test slices", _phases(run, tables)),
        _section("Every test patient, worst first", _patients(tables, metrics)),
        _section("Failures", _failures(run, tables)),
        _section("Provenance", _provenance(run, metrics)),
    ]
    return "\n".join(line.rstrip() for part in parts for line in part) + "\n"


def _all_scores(found: Mapping[str, Any], missing: Sequence[str]) -> list[Score]:
    return [
        *untrained(missing),
        *segmentation_lines(found["segmentation"]),
        *scores(found["classification"]),
        *whole_patients(found["patient_classification"]),
    ]


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("", title, "-" * _WIDTH)
    yield from lines


def _warnings(run: RunFacts, metrics: Mapping[str, Any]) -> Iterator[str]:
    for headline, explanation in warnings(run, metrics):
        yield from textwrap.wrap(f"! {headline}. {explanation}", _WIDTH, subsequent_indent="  ")
    for note in choice_notes(metrics):
        yield from textwrap.wrap(f"! Choices: {note}", _WIDTH, subsequent_indent="  ")
    yield "Not a medical device: no figure here supports a decision about a person."


def _sources(
    metrics: Mapping[str, Any], read: Callable[[Mapping[str, Any], Sequence[str]], list[Score]]
) -> Iterator[str]:
    missing = metrics.get("not_trained", ())
    for source, found in metrics["sources"].items():
        yield f"{source}: {population(found['num_patients'], found['num_slices'])}"
        lines = with_conditions(read(found, missing), decision_of(metrics, source))
        head = ("score", "value", "interval", unit_of(found), "")
        rows = [(line.name, line.value, line.interval, line.num_patients, line.note) for line in lines]
        yield from _table(head, rows)
        yield from (f"  {note}" for note in shared_notes(found))


def _training(run: RunFacts) -> Iterator[str]:
    head = ("stage", "epochs", "kept", "Dice", "AUC volumes", "AUC pictures", "minutes", "images/s", "device")
    stages = [step for step in run.steps if step.name.startswith("train.")]
    yield from _table(head, [_stage(step.name, step.seconds, step.metrics) for step in stages])


def _stage(name: str, seconds: float, metrics: Mapping[str, Any]) -> Cells:
    best = metrics["best_metrics"]
    speed = number(metrics["images_per_second"], 0)
    marks = [number(best.get(mark)) for mark in ("dice", "auc_volumes", "auc_pictures")]
    rest = (number(seconds / 60, 1), speed, str(metrics["device"]))
    return (name, str(metrics["epochs_run"]), kept_epoch(metrics), *marks, *rest)


def _phases(run: RunFacts, tables: Mapping[str, Any]) -> Iterator[str]:
    head = ("source", "score", "stage", "value", "interval", "p", "patients/families", "")
    yield from _table(
        head,
        [
            (
                row.source,
                score_name(row),
                row.phase,
                number(row.value),
                interval_text(row.low, row.high),
                p_text(row.p_value),
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
            number(row.dice),
            number(row.nsd),
            number(row.hd95_mm, 1),
            number(row.reference_ml, 1),
            number(row.predicted_ml, 1),
            number(row.slice_accuracy if calls_count else None),
        )
        for row in tables["patients"]
    ]
    yield from _table(head, rows[:MOST_PATIENTS])
    if len(rows) > MOST_PATIENTS:
        yield f"  {MOST_PATIENTS} of {len(rows)}; the others stand in patients.csv"


def _failures(run: RunFacts, tables: Mapping[str, Any]) -> Iterator[str]:
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
            number(row.failed, 2),
            number(row.rest, 2),
            f"{row.effect:+.2f}",
            row.strength,
        )
        for row in tables["traits"]
    ]
    yield from _table(head, rows) if rows else ()


def _provenance(run: RunFacts, metrics: Mapping[str, Any]) -> Iterator[str]:
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
        (step.name, step.made_at, number(step.seconds, 1), str(step.memory_mib or "–"), step.fingerprint[:12])
        for step in run.steps
    ]
    yield from _table(head, rows)


def _table(head: Cells, rows: Sequence[Cells]) -> Iterator[str]:
    """Yield columns as wide as their widest cell: names to the left, all between first and last aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  " + "  ".join(_plain(cell).ljust(width) for cell, width in zip(row, widths, strict=True))


def _plain(text: str) -> str:
    """Replace what would break a line or a terminal: names come from foreign files."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
