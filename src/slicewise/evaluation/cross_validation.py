"""The folds of a cross-validation together: everyone is tested once, by the network that never saw them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicewise.config.schema import Evaluation
from slicewise.core.errors import DataError
from slicewise.core.files import read_json, write_text
from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.tables import PatientRow, SliceRow, by_source, plural, read_rows
from slicewise.evaluation.cross_calibration import FoldPredictions, calibrate_across
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.report import to_text, write_tables
from slicewise.evaluation.summary import summarise
from slicewise.inference.calibration import Scaling, calibration_metrics
from slicewise.plots.style import BLUE, GREY, draw, draw_heading

_HEADER = (
    f"{'fold':<6}{'source':<26}{'patients':>9}{'Dice':>8}{'median':>8}{'ROC-AUC':>9}{'balanced acc.':>15}"
)
_SPREAD = 0.28
_NO_CLASSES: Mapping[str, Any] = {name: {"value": None} for name in ("roc_auc", "balanced_accuracy")}


@dataclass(frozen=True)
class Fold:
    """What one fold's evaluation wrote; `number` counts from 1."""

    number: int
    slices: tuple[SliceRow, ...]
    patients: tuple[PatientRow, ...]
    metrics: Mapping[str, Any]


def read_fold(folder: Path, number: int) -> Fold:
    """Read slices.csv, patients.csv and metrics.json of one fold.

    Raises:
        WorkspaceError: one of them is damaged.
    """
    slices, patients = (
        tuple(read_rows(folder / "slices.csv", SliceRow)),
        tuple(read_rows(folder / "patients.csv", PatientRow)),
    )
    return Fold(number, slices, patients, read_json(folder / "metrics.json"))


def pool_folds(folds: Sequence[Fold], settings: Evaluation, seed: int) -> EvaluationResult:
    """Return the tables of all folds as one result.

    Raises:
        DataError: somebody is on the test side of two folds, so that the folds are no partition.
    """
    tested_in: dict[tuple[str, str], int] = {}
    for fold in folds:
        for group in {(row.source, row.group) for row in fold.slices}:
            if group in tested_in:
                raise DataError(
                    f"{'/'.join(group)} is tested in fold {tested_in[group]} and in fold {fold.number}; "
                    "run again with --force split"
                )
            tested_in[group] = fold.number
    slices = sorted((row for fold in folds for row in fold.slices), key=lambda row: row.key)
    patients = sorted(
        (row for fold in folds for row in fold.patients), key=lambda row: (row.source, row.patient)
    )
    missing = tuple(folds[0].metrics.get("not_trained", ())) if folds else ()
    return EvaluationResult(tuple(slices), tuple(patients), settings, seed, missing)


def write_pooled(
    folder: Path, folds: Sequence[Fold], result: EvaluationResult, *, data_name: str, synthetic: bool
) -> dict[str, Any]:
    """Write the report on all folds, with a table of the folds; return the metrics."""
    stage = f"joint, out of {len(folds)} folds"
    metrics = {"data": data_name, "synthetic": synthetic, "stage": stage, **summarise(result)}
    metrics["calibration"] = _calibration(result, folds)
    metrics["folds"] = [row for fold in folds for row in fold_rows(fold)]
    write_tables(folder, result, metrics, pooled=True)
    write_text(folder / "report.txt", "\n".join([to_text(metrics), *_fold_lines(metrics)]) + "\n")
    _draw_folds(folder / "folds.png", folds, synthetic=synthetic)
    return metrics


def fold_rows(fold: Fold) -> list[dict[str, Any]]:
    """Return one row per source: how its patients of this fold fared."""
    rows = []
    for source, scores in fold.metrics["sources"].items():
        dice = _dice(fold, source)
        classes = scores["classification"] or _NO_CLASSES
        rows.append(
            {
                "fold": fold.number,
                "source": source,
                "num_patients": scores["num_patients"],
                "dice_mean": float(np.mean(dice)) if dice else None,
                "dice_median": float(np.median(dice)) if dice else None,
                "roc_auc": classes["roc_auc"]["value"],
                "balanced_accuracy": classes["balanced_accuracy"]["value"],
            }
        )
    return rows


def _dice(fold: Fold, source: str) -> list[float]:
    return [row.dice for row in fold.patients if row.source == source and row.dice is not None]


def _calibration(result: EvaluationResult, folds: Sequence[Fold]) -> dict[str, dict[str, Any]]:
    """Return how far the probabilities of each source are from the truth.

    As each fold reported them and, where some folds had too few validation patients to calibrate their own,
    calibrated across the folds.
    """
    if CLASSIFICATION in result.not_trained:
        return {}
    bins = result.settings.calibration_bins
    scores: dict[str, dict[str, Any]] = {}
    for source, rows in by_source(result.slices).items():
        if figures := calibration_metrics(rows, bins):
            parts = _fold_slices(folds, source)
            across = calibrate_across(parts, result.settings, result.seed)
            raw = sum(part.scaling == Scaling() for part in parts)
            scores[source] = {**figures, "num_raw_folds": raw, "across_folds": across}
    return scores


def _fold_slices(folds: Sequence[Fold], source: str) -> list[FoldPredictions]:
    """Return the predicted slices of each fold that has the source."""
    tables = [(fold, tuple(by_source(fold.slices).get(source, ()))) for fold in folds]
    return [
        FoldPredictions(fold.number, tuple(row for row in rows if row.asked), _scaling(fold, source))
        for fold, rows in tables
        if rows
    ]


def _scaling(fold: Fold, source: str) -> Scaling:
    scores = fold.metrics["decisions"][source]
    return Scaling(scores["temperature"], scores["shift"])


def _fold_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    for source, scores in metrics["calibration"].items():
        chance = f"{scores['ece_by_chance']:.3f} if every probability were right"
        error = f"ECE {scores['ece']:.3f} in {scores['ece_bins']} bins ({chance})"
        yield f"{source}: {error}, Brier score {scores['brier']:.3f}"
        yield from _calibration_lines(scores)
    yield ""
    yield from _table(metrics["folds"])


def _calibration_lines(scores: Mapping[str, Any]) -> Iterator[str]:
    """Say which folds are raw, and what a calibration across the folds makes of all of them."""
    if not scores["num_raw_folds"]:
        return
    yield f"  in {plural(scores['num_raw_folds'], 'fold')} probabilities are raw, not calibrated"
    across = scores["across_folds"]
    if across is None:
        yield "  too few patients to calibrate across the folds"
        return
    gain = across["gain"]
    low, high = gain["interval"] or (math.nan, math.nan)
    yield (
        f"  calibrated across the folds: ECE {across['ece']:.3f} ({across['ece_by_chance']:.3f} if every "
        f"probability were right), Brier score {across['brier']:.3f}"
    )
    yield f"  log-likelihood of a slice {gain['value']:+.3f} ({low:+.3f} to {high:+.3f})"


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _HEADER
    yield "-" * len(_HEADER)
    for row in rows:
        yield (
            f"{row['fold']:<6}{row['source']:<26}{row['num_patients']:>9}{_cell(row['dice_mean']):>8}"
            f"{_cell(row['dice_median']):>8}{_cell(row['roc_auc']):>9}{_cell(row['balanced_accuracy']):>15}"
        )


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _draw_folds(path: Path, folds: Sequence[Fold], *, synthetic: bool) -> None:
    """Draw every patient's Dice, one column per fold, with the fold's mean and the mean of all."""
    sources = sorted({row.source for fold in folds for row in fold.patients if row.dice is not None})
    if not sources:  # pictures alone have no masks
        return

    def paint(figure: Figure) -> None:
        draw_heading(figure, "Dice per patient, by fold", synthetic=synthetic)
        panels = figure.subplots(1, len(sources), squeeze=False)[0]
        for axes, source in zip(panels, sources, strict=True):
            _columns(axes, source, [_dice(fold, source) for fold in folds])

    draw(path, (max(5.0, 1.1 * len(folds)) * len(sources), 4.0), paint)


def _columns(axes: Axes, source: str, columns: Sequence[Sequence[float]]) -> None:
    for number, values in enumerate(columns, 1):
        ordered = np.sort(values)
        places = number + np.linspace(-_SPREAD, _SPREAD, len(ordered)) if len(ordered) > 1 else [number]
        axes.plot(places, ordered, "o", color=BLUE, markersize=4, alpha=0.7)
        if len(ordered):
            axes.hlines(ordered.mean(), number - _SPREAD, number + _SPREAD, color=GREY, linewidth=2)
    everyone = np.concatenate([np.asarray(values) for values in columns])
    axes.axhline(everyone.mean(), color=GREY, linewidth=1, linestyle=":")
    axes.set(title=f"{source}: mean {everyone.mean():.3f}", xlabel="fold", ylabel="Dice", ylim=(-0.03, 1.03))
    axes.set_xticks(range(1, len(columns) + 1))
    axes.grid(axis="y")
