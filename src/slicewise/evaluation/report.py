"""The report of an evaluation: metrics.json, report.txt, tables and figures."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slicewise.core.files import write_json, write_text
from slicewise.domain.report import WIDTH, Table
from slicewise.domain.tables import PatientRow, SliceRow, by_source, write_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.held_out import HeldOutResult, compare_thresholds
from slicewise.evaluation.score_tables import number, source_scores
from slicewise.evaluation.summary import bootstrap_settings, labelled_scores, pooled_estimate, summarise
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.table import METRICS
from slicewise.plots.reliability_diagram import draw_reliability
from slicewise.plots.scores import draw_confusion, draw_dice, draw_roc

_CALIBRATION = (
    ("ece", "calibration error, {ece_bins} bins"),
    ("ece_by_chance", "of it by chance"),
    ("brier", "Brier score"),
)
_NOT_POSTPROCESSING = ("before", "after", "notes")
"""Keys of `compare_thresholds` besides the post-processing."""


def write_report(
    folder: Path, held_out: HeldOutResult, *, data_name: str, stage: str, synthetic: bool
) -> dict[str, Any]:
    """Write metrics.json, report.txt, slices.csv, patients.csv and the score figures; return the metrics."""
    metrics = {"data": data_name, "synthetic": synthetic, "stage": stage, **summarise(held_out.after)}
    metrics["decisions"] = compare_thresholds(held_out)
    write_tables(folder, held_out.after, metrics)
    write_text(folder / "report.txt", to_text(metrics))
    draw_reliability(
        folder / "reliability_diagram.png",
        held_out.before,
        held_out.after,
        held_out.selection.postprocessing,
        bins=held_out.after.settings.calibration_bins,
        synthetic=synthetic,
    )
    return metrics


def write_tables(
    folder: Path, result: EvaluationResult, metrics: dict[str, Any], *, pooled: bool = False
) -> None:
    """Write metrics.json, slices.csv, patients.csv and the figures that need no more than these.

    `pooled`: the predictions are those of several models.
    """
    synthetic = bool(metrics["synthetic"])
    write_json(folder / "metrics.json", metrics)
    write_rows(folder / "slices.csv", result.slices, SliceRow)
    write_rows(folder / "patients.csv", result.patients, PatientRow)
    draw_confusion(folder / "confusion_matrix.png", result, synthetic=synthetic)
    draw_dice(folder / "metric_distribution.png", result, synthetic=synthetic)
    bootstrap = bootstrap_settings(result)
    aucs = {
        source: pooled_estimate(METRICS["roc_auc"], rows, bootstrap)
        for source, rows in by_source(result.slices).items()
    }
    draw_roc(folder / "roc_curve.png", result, aucs, synthetic=synthetic, pooled=pooled)


def to_text(metrics: Mapping[str, Any]) -> str:
    """Return the report for a terminal."""
    intervals, kind = metrics["intervals"], "synthetic" if metrics["synthetic"] else "real"
    facts = {
        "checkpoint": metrics["stage"],
        "intervals": f"{intervals['confidence']:.0%}, {intervals['samples']:,} samples",
        "": intervals["method"],
        "surfaces": f"3-D, NSD within {metrics['nsd_tolerance_mm']:g} mm",
    }
    lines = [f"SliceWise evaluation: {metrics['data']} ({kind} data)", "=" * WIDTH]
    lines += Table(("", ""), [*facts.items()]).lines()
    for (source, entry), scores in zip(metrics["sources"].items(), source_scores(metrics), strict=True):
        lines += ["", *scores.details.lines(), *(f"  {note}" for note in scores.notes)]
        if entry["classification"]:
            lines += _classification_lines(entry)
        if "decisions" in metrics:
            lines += _selection_lines(metrics["decisions"][source])
    lines += ["", *textwrap.wrap(f"Empty masks: {metrics['empty_reference_policy']}", WIDTH)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _classification_lines(entry: Mapping[str, Any]) -> Iterator[str]:
    classes, whole = entry["classification"], entry["patient_classification"]
    cells = classes["confusion"]
    yield f"  always the majority class: accuracy {classes['majority_accuracy']:.3f}"
    rows = [
        (f"truly {name}", *(f"{cells[cell]:,}" for cell in columns))
        for name, columns in (
            ("no tumour", ("true_negative", "false_positive")),
            ("tumour", ("false_negative", "true_positive")),
        )
    ]
    yield from Table(("", "called no tumour", "called tumour"), rows).lines()
    ill, healthy = (
        whole["num_with_tumour"],
        whole["num_without_tumour"],
    )  # a family of pictures is one patient
    yield f"  whole patients: {ill:,} with tumour, {healthy:,} without"


def _selection_lines(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the scores before and after the selection on validation, and the selected post-processing."""
    before, after = entry["before"], entry["after"]
    pairs = {
        words.format_map(after): (before[name], after[name])
        for name, words in _CALIBRATION
        if after[name] is not None
    }
    earlier = dict(labelled_scores(before))
    pairs |= {label: (earlier[label]["value"], new["value"]) for label, new in labelled_scores(after)}
    rows = [(label, number(old), number(new)) for label, (old, new) in pairs.items()]
    yield from Table(("selected on validation", "before", "after"), rows).lines()
    postprocessing = Postprocessing.from_json(
        {name: value for name, value in entry.items() if name not in _NOT_POSTPROCESSING}
    )
    for text in (postprocessing.describe(), *entry["notes"]):
        yield from textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
