"""The report of an evaluation: metrics.json, report.txt, tables and figures."""

import textwrap
from collections.abc import Collection, Iterator, Mapping
from itertools import starmap
from pathlib import Path
from typing import Any

from slicewise.core.files import write_json, write_text
from slicewise.domain.labels import SEGMENTATION
from slicewise.domain.tables import (
    PatientRow,
    SliceRow,
    by_source,
    describe_counts,
    resampling_unit,
    write_rows,
)
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.held_out import HeldOutResult, compare_thresholds
from slicewise.evaluation.summary import bootstrap_settings, labelled_scores, pooled_estimate, summarise
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.table import METRICS
from slicewise.plots.reliability_diagram import draw_reliability
from slicewise.plots.scores import draw_confusion, draw_dice, draw_roc

_WIDTH = 86
_LABEL = 45
"""Width of the names of scores"""
_CALIBRATION = (
    ("ece", "calibration error, {ece_bins} bins"),
    ("ece_by_chance", "  of it by chance"),
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


def to_text(metrics: dict[str, Any]) -> str:
    """Return the report for a terminal, 86 columns wide."""
    intervals = metrics["intervals"]
    lines = [
        f"SliceWise evaluation: {metrics['data']} ({'synthetic' if metrics['synthetic'] else 'real'} data)",
        "=" * _WIDTH,
        f"checkpoint   {metrics['stage']}",
        f"intervals    {intervals['confidence']:.0%}, {intervals['samples']:,} samples",
        f"             {intervals['method']}",
        f"surfaces     3-D, NSD within {metrics['nsd_tolerance_mm']:g} mm",
    ]
    for source, entry in metrics["sources"].items():
        lines += _source_lines(source, entry, metrics["tasks"])
        if "decisions" in metrics:
            lines += _selection_lines(metrics["decisions"][source])
    lines += ["", *_wrapped(f"Empty masks: {metrics['empty_reference_policy']}")]
    return "\n".join(lines) + "\n"


def _source_lines(source: str, entry: dict[str, Any], tasks: Collection[str]) -> Iterator[str]:
    yield ""
    counts = describe_counts(entry["num_patients"], entry["num_slices"])
    yield f"{source}: {counts}, {entry['num_tumour_slices']:,} with tumour"
    yield "-" * _WIDTH
    yield f"{'':<{_LABEL}}{'value':>8}  {'interval':<18}{resampling_unit(entry):>9}"
    masks, classes = entry["segmentation"], entry["classification"]
    if masks is None and SEGMENTATION in tasks:
        yield f"{'segmentation':<{_LABEL}}not scored: this source has no masks"
    elif masks is not None:
        yield from starmap(_score_line, labelled_scores(masks))
        empty, missed = masks["empty_reference"], masks["empty_prediction"]
        yield f"  empty references: {empty['num_patients']} patients, {empty['num_slices']} slices"
        whole = f"{missed['num_patients']} patients, {missed['num_tumour_slices']} tumour slices"
        yield f"  missed whole: {whole}"
    if classes is None:
        yield f"{'classification':<{_LABEL}}not trained"
        return
    yield from starmap(_score_line, labelled_scores(classes))
    yield f"{'  always the majority class':<{_LABEL}}{classes['majority_accuracy']:>8.3f}  accuracy"
    cells = classes["confusion"]
    yield f"{'':<{_LABEL}}{'called no tumour':>18}{'called tumour':>18}"
    yield f"{'  truly no tumour':<{_LABEL}}{cells['true_negative']:>18,}{cells['false_positive']:>18,}"
    yield f"{'  truly tumour':<{_LABEL}}{cells['false_negative']:>18,}{cells['true_positive']:>18,}"
    whole = entry["patient_classification"]  # a family of pictures is one patient
    ill, healthy = whole["num_with_tumour"], whole["num_without_tumour"]
    yield f"  whole patients: {ill:,} with tumour, {healthy:,} without"
    if whole["roc_auc"]["value"] is None:
        yield from _wrapped(f"    {whole['roc_auc']['note']}", "    ")
        return
    yield from (_score_line(f"  {label}, patients", score) for label, score in labelled_scores(whole))


def _selection_lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the scores before and after the selection on validation, and the selected post-processing."""
    yield f"{'  selected on validation':<{_LABEL}}{'before':>8}{'after':>8}"
    for name, label in _CALIBRATION:
        if entry["after"][name] is not None:
            words = "  " + label.format_map(entry["after"])
            yield f"{words:<{_LABEL}}{entry['before'][name]:>8.3f}{entry['after'][name]:>8.3f}"
    for label, after in labelled_scores(entry["after"]):
        before = dict(labelled_scores(entry["before"]))[label]
        yield f"{'  ' + label:<{_LABEL}}{before['value']:>8.3f}{after['value']:>8.3f}"
    postprocessing = Postprocessing.from_json(
        {name: value for name, value in entry.items() if name not in _NOT_POSTPROCESSING}
    )
    yield from _wrapped("  " + postprocessing.describe(), "  ")
    for note in entry["notes"]:
        yield from _wrapped(f"  {note}", "  ")


def _score_line(label: str, score: Mapping[str, Any]) -> str:
    value = "–" if score["value"] is None else f"{score['value']:.3f}"
    low_high = score["interval"]
    interval = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else "–"
    note = f"  {score['note']}" if score.get("note") else ""
    return f"{label:<{_LABEL}}{value:>8}  {interval:<18}{score['num_patients']:>9}{note}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent)
