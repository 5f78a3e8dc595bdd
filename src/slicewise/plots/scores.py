"""Figures of scores: confusion matrices, Dice per patient, ROC curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.tables import (
    Estimate,
    EvaluationTables,
    PatientRow,
    SliceRow,
    by_source,
    describe_counts,
    plural,
)
from slicewise.metrics.confusion import accuracy, count_confusion, majority_accuracy
from slicewise.plots.style import BLUE, GREY, ORANGE, PALE, SERIES, draw, draw_heading, draw_message

_CLASSES = ("no tumour", "tumour")
_FEWEST_FOR_BOX = 5
NO_CLASSIFICATION = "the model has no classification"


def draw_confusion(path: Path, result: EvaluationTables, *, synthetic: bool) -> Path:
    """Draw one confusion matrix per source: counts, and shares of each true class."""
    if CLASSIFICATION not in result.tasks:
        return draw_message(path, "Slice classification", NO_CLASSIFICATION, synthetic=synthetic)
    sources = by_source(result.slices)

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, len(sources), squeeze=False)[0]
        for axes, (source, rows) in zip(panels, sources.items(), strict=True):
            paint_confusion(
                axes, source, rows, describe_counts(len({row.patient for row in rows}), len(rows))
            )
        draw_heading(figure, "Slice classification", synthetic=synthetic)

    return draw(path, (max(4.4, 3.9 * len(sources)), 4.4), paint)


def draw_dice(path: Path, result: EvaluationTables, *, synthetic: bool) -> Path:
    """Draw Dice and IoU per patient, a dot each, with the quartiles where there are enough."""
    sources = {
        source: rows
        for source, patients in by_source(result.patients).items()
        if (rows := [row for row in patients if row.dice is not None])
    }

    def paint(figure: Figure) -> None:
        panels = figure.subplots(max(1, len(sources)), 1, squeeze=False, sharex=True)[:, 0]
        if not sources:
            is_task = SEGMENTATION in result.tasks
            words = "no test patient has a mask" if is_task else "the model has no segmentation"
            panels[0].text(0.5, 0.5, words, ha="center")
        for axes, (source, rows) in zip(panels[: len(sources)], sources.items(), strict=True):
            _strips(axes, source, rows)
        panels[-1].set_xlabel(
            "score per patient, all slices pooled; black: median, grey: quartiles and range"
        )
        draw_heading(figure, "Segmentation overlap", synthetic=synthetic)

    return draw(path, (7.5, 1.2 + 2.2 * max(1, len(sources))), paint)


def draw_roc(
    path: Path,
    result: EvaluationTables,
    aucs: Mapping[str, Estimate],
    *,
    synthetic: bool,
    pooled: bool = False,
) -> Path:
    """Draw one ROC curve per source, the chance line, and the operating point on each curve.

    `pooled` slices are of several models with thresholds of their own, so no operating point is on the curve.
    """
    if CLASSIFICATION not in result.tasks:
        return draw_message(path, "Tumour or not, per slice", NO_CLASSIFICATION, synthetic=synthetic)
    sources = by_source(result.slices)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="chance")
        for place, (source, rows) in enumerate(sources.items()):
            _roc(axes, source, rows, aucs[source], SERIES[place % len(SERIES)], pooled=pooled)
        axes.set(xlabel="1 − specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_aspect("equal")
        axes.grid(True)
        axes.legend(loc="lower right", title=None if pooled else "dot: operating point")
        draw_heading(figure, "Tumour or not, per slice", synthetic=synthetic)

    return draw(path, (5.8, 6.0), paint)


def paint_confusion(axes: Axes, source: str, rows: Sequence[SliceRow], counts_text: str) -> None:
    """Fill a panel with the confusion matrix of some slices; `counts_text` is part of its title."""
    cells = count_confusion([row.label for row in rows], [row.predicted for row in rows])
    counts = np.array(cells, dtype=int).reshape(2, 2)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = f"{count:,}\n{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=12)
    axes.set_xticks([0, 1], _CLASSES)
    axes.set_yticks([0, 1], _CLASSES, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="true")
    share, base = float(accuracy(cells)), float(majority_accuracy(cells))
    axes.set_title(f"{source}: {counts_text}\naccuracy {share:.1%} (majority class {base:.1%})")


def _strips(axes: Axes, source: str, rows: Sequence[PatientRow]) -> None:
    for height, name in enumerate(("iou", "dice")):
        values = np.array([row.scores[name] for row in rows], dtype=np.float64)
        shift = _stack(values)
        size, alpha = (28, 0.9) if len(values) <= 30 else (12, 0.5)
        colour = BLUE if name == "dice" else ORANGE
        axes.scatter(values, height - 0.06 + shift, s=size, color=colour, alpha=alpha, linewidths=0, zorder=3)
        _box(axes, values, height - 0.3)
    axes.set_yticks([0, 1], ["IoU", "Dice"])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.55, 1.5))
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    empty = sum(bool(row.empty_reference) for row in rows)
    note = f", {empty} without tumour in the reference" if empty else ""
    dice = np.median([row.dice for row in rows if row.dice is not None])
    axes.set_title(f"{source}: {plural(len(rows), 'patient')}, median Dice {dice:.2f}{note}")


def _box(axes: Axes, values: NDArray[np.float64], height: float) -> None:
    median = float(np.median(values))
    if len(values) >= _FEWEST_FOR_BOX:
        low, lower, upper, high = np.quantile(values, [0, 0.25, 0.75, 1])
        axes.plot([low, high], [height, height], color=GREY, linewidth=1)
        axes.plot([lower, upper], [height, height], color=PALE, linewidth=9, solid_capstyle="butt", zorder=2)
    axes.plot([median, median], [height - 0.09, height + 0.09], color="black", linewidth=2, zorder=4)


def _stack(values: NDArray[np.float64], reach: float = 0.28, bins: int = 50) -> NDArray[np.float64]:
    """Return upward shifts that stack dots of nearly equal value: no dot hides another."""
    place = np.minimum((values * bins).astype(int), bins - 1)
    rank = np.zeros(len(values))
    for cell in np.unique(place):
        rank[place == cell] = np.arange(np.count_nonzero(place == cell))
    rank *= min(0.09, reach / max(1.0, rank.max()))
    return rank


def _roc(
    axes: Axes, source: str, rows: Sequence[SliceRow], area: Estimate, colour: str, *, pooled: bool
) -> None:
    if area.value is None:
        axes.plot([], [], color=colour, label=f"{source}: no AUC, one class only")
        return
    labels = [row.label for row in rows]
    false_positive, true_positive, _ = roc_curve(labels, [row.probability for row in rows])
    interval = f" ({area.low:.3f} to {area.high:.3f})" if area.low is not None else ""
    counts_text = describe_counts(len({row.patient for row in rows}), len(rows))
    label = f"{source}: AUC {area.value:.3f}{interval}\n{counts_text}"
    axes.plot(false_positive, true_positive, color=colour, linewidth=2, label=label)
    if not pooled and len(set(labels)) == len(_CLASSES):
        cells = count_confusion(labels, [row.predicted for row in rows])
        fall_out = cells.false_positive / (cells.false_positive + cells.true_negative)
        sensitivity = cells.true_positive / (cells.true_positive + cells.false_negative)
        axes.plot(fall_out, sensitivity, "o", color=colour, markersize=7)
