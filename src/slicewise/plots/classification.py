"""Figures of the classes of slices: confusion matrices, ROC curves, calibration."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from slicewise.domain.classes import Classes
from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.tables import (
    Estimate,
    EvaluationTables,
    SliceRow,
    by_source,
    describe_counts,
    plural,
)
from slicewise.inference.calibration import NOT_CALIBRATED, expected_calibration_error, reliability_curve
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.confusion import (
    class_accuracy,
    count_classes,
    count_confusion,
    roc_auc,
)
from slicewise.plots.style import BLUE, GREY, ORANGE, SERIES, draw_message, drawing, hide_axes

_NO_CLASSIFICATION: Final = "the model has no classification"
_DIAGONAL: Final[dict[str, Any]] = {"color": GREY, "linewidth": 1, "linestyle": (0, (4, 3))}
_DOT_AREA, _SMALLEST_DOT = 260.0, 12.0  # of a bin with all slices, and of one with few
_ROOM: Final = 52
"""Characters beside each other that fit below a confusion matrix"""
_DASHES: Final = ("-", "--", ":")


def draw_confusion(path: Path, result: EvaluationTables, *, synthetic: bool) -> None:
    """Draw one confusion matrix per source: counts, and shares of each true class."""
    title, sources = "Slice classification", by_source(result.slices)
    if CLASSIFICATION not in result.tasks:
        draw_message(path, title, _NO_CLASSIFICATION, synthetic=synthetic)
        return
    side = _matrix_side(result.slice_classes)
    with drawing(path, (max(side, (side - 0.5) * len(sources)), side), title, synthetic=synthetic) as figure:
        panels = figure.subplots(1, len(sources), squeeze=False)[0]
        for axes, (source, rows) in zip(panels, sources.items(), strict=True):
            _draw_matrix(axes, source, rows, _describe_slices(rows), result.slice_classes.labels)


def draw_failure_confusion(
    path: Path, result: EvaluationTables, failures: Mapping[str, Sequence[SliceRow]], *, synthetic: bool
) -> None:
    """Draw the confusion matrix of all slices of each source, and below it that of its `failures`."""
    if CLASSIFICATION not in result.tasks:
        _draw_failed_pixels(path, result, failures, synthetic=synthetic)
        return
    title, sources = "Slice classification: all slices, and those that failed", by_source(result.slices)
    side, names = _matrix_side(result.slice_classes), result.slice_classes.labels
    size = (max(side + 0.4, (side - 0.2) * len(sources)), 2 * side - 0.4)
    with drawing(path, size, title, synthetic=synthetic) as figure:
        grid = figure.subplots(2, len(sources), squeeze=False)
        for (above, below), (source, rows) in zip(grid.T, sources.items(), strict=True):
            _draw_matrix(above, f"{source}, all", rows, _describe_slices(rows), names)
            unit = "picture" if len({row.patient for row in rows}) == len(rows) else "slice"
            if failed := failures.get(source):
                _draw_matrix(below, f"{source}, failures", failed, plural(len(failed), unit), names)
            else:
                hide_axes(below)
                below.text(0.5, 0.5, f"{source}: no failures", ha="center", color=GREY)


def _draw_failed_pixels(
    path: Path, result: EvaluationTables, failures: Mapping[str, Sequence[SliceRow]], *, synthetic: bool
) -> None:
    """Draw the confusion matrix of the pixels of all slices of each source, and that of its `failures`."""
    title = "Pixels of all slices, and of those that failed"
    sources = by_source(row for row in result.slices if row.key in result.cells)
    if not sources:
        draw_message(path, title, "there is no confusion of classes that overlap", synthetic=synthetic)
        return
    names = [name.replace("_", " ") for name in result.classes.with_absence]
    with drawing(path, (max(5.2, 5.2 * len(sources)), 9.4), title, synthetic=synthetic) as figure:
        grid = figure.subplots(2, len(sources), squeeze=False)
        for column, (source, rows) in zip(grid.T, sources.items(), strict=True):
            failed = [row for row in failures.get(source, []) if row.key in result.cells]
            for axes, what, own in zip(column, ("all", "failures"), (rows, failed), strict=True):
                if own:
                    cells = np.sum([result.cells[row.key] for row in own], axis=0)
                    draw_cells(axes, cells, names)
                    axes.set_title(f"{source}, {what} ({len(own)}): accuracy {class_accuracy(cells):.1%}")
                else:
                    hide_axes(axes)
                    axes.text(0.5, 0.5, f"{source}: no failures", ha="center", color=GREY)


def _matrix_side(classes: Classes) -> float:
    """Return the inches of a side of a confusion matrix."""
    return max(4.4, 1.8 + 1.05 * len(classes.with_absence))


def _draw_matrix(
    axes: Axes, source: str, rows: Sequence[SliceRow], counts_text: str, names: Sequence[str]
) -> None:
    labels, predicted = ([getattr(row, name) for row in rows] for name in ("label", "predicted"))
    cells = count_classes([labels], [predicted], len(names))[0]
    share, base = float(class_accuracy(cells)), cells.sum(axis=1).max() / len(rows)
    draw_cells(axes, cells, names)
    axes.set_title(f"{source}: {counts_text}\naccuracy {share:.1%} (majority class {base:.1%})")


def draw_cells(axes: Axes, counts: NDArray[np.int64], names: Sequence[str]) -> None:
    """Draw a confusion matrix [C, C], the true classes down."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = f"{count:,}\n{shares[row, column]:.0%}"
        size = 12 if len(names) <= 3 else 10 if len(names) <= 5 else 8
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    crowded = len(names) * max(map(len, names)) > _ROOM
    turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(names)), names, **turned)
    axes.set_yticks(range(len(names)), names, rotation=0 if len(names) > 3 or crowded else 90, va="center")
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="true")


def draw_roc(
    path: Path,
    result: EvaluationTables,
    aucs: Mapping[str, Estimate],
    *,
    synthetic: bool,
    pooled: bool = False,
) -> None:
    """Draw one ROC curve per source, the chance line, and the operating point on each curve.

    `pooled` slices are of several models with thresholds of their own, so no operating point is on the curve.
    """
    several = bool(result.slice_classes.several)
    title = "Each class against the others" if several else "Tumour or not, per slice"
    if CLASSIFICATION not in result.tasks:
        draw_message(path, title, _NO_CLASSIFICATION, synthetic=synthetic)
        return
    if several:
        _draw_class_rocs(path, result, aucs, title, synthetic=synthetic)
        return
    with drawing(path, (5.8, 6.0), title, synthetic=synthetic) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], label="chance", **_DIAGONAL)
        for place, (source, rows) in enumerate(by_source(result.slices).items()):
            _draw_roc_curve(axes, source, rows, aucs[source], SERIES[place % len(SERIES)], pooled=pooled)
        _finish_roc(axes)
        axes.legend(loc="lower right", title=None if pooled else "dot: operating point")


def _finish_roc(axes: Axes) -> None:
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.grid(True)


def _draw_class_rocs(
    path: Path, result: EvaluationTables, aucs: Mapping[str, Estimate], title: str, *, synthetic: bool
) -> None:
    """Draw a panel per source with the curve of each of several classes."""
    sources, names = by_source(result.slices), result.slice_classes.labels
    with drawing(path, (5.8 * len(sources), 6.2), title, synthetic=synthetic) as figure:
        panels = figure.subplots(1, len(sources), squeeze=False)[0]
        for axes, (source, rows) in zip(panels, sources.items(), strict=True):
            axes.plot([0, 1], [0, 1], label="chance", **_DIAGONAL)
            for number, name in enumerate(names):
                labels, scores = (
                    [row.label == number for row in rows], [row.class_probabilities[number] for row in rows]
                )  # fmt: skip
                colour, style = SERIES[number % len(SERIES)], _DASHES[number // len(SERIES) % len(_DASHES)]
                if 0 < sum(labels) < len(labels):
                    false_positive, true_positive, _ = roc_curve(labels, scores)
                    text = f"{name}: AUC {float(roc_auc(labels, scores)):.3f}"
                    axes.plot(false_positive, true_positive, style, color=colour, linewidth=2, label=text)
            area = aucs[source]
            interval = "" if area.low is None else f" ({area.low:.3f} to {area.high:.3f})"
            mean = "no AUC" if area.value is None else f"mean AUC {area.value:.3f}{interval}"
            axes.set_title(f"{source}: {_describe_slices(rows)}\n{mean}")
            _finish_roc(axes)
            axes.legend(loc="lower right")


def _draw_roc_curve(
    axes: Axes, source: str, rows: Sequence[SliceRow], area: Estimate, colour: str, *, pooled: bool
) -> None:
    if area.value is None:
        axes.plot([], [], color=colour, label=f"{source}: no AUC, one class only")
        return
    labels = [row.label for row in rows]
    false_positive, true_positive, _ = roc_curve(labels, [row.probability for row in rows])
    interval = f" ({area.low:.3f} to {area.high:.3f})" if area.low is not None else ""
    label = f"{source}: AUC {area.value:.3f}{interval}\n{_describe_slices(rows)}"
    axes.plot(false_positive, true_positive, color=colour, linewidth=2, label=label)
    if not pooled and len(set(labels)) == 2:
        cells = count_confusion(labels, [row.predicted for row in rows])
        fall_out = cells.false_positive / (cells.false_positive + cells.true_negative)
        sensitivity = cells.true_positive / (cells.true_positive + cells.false_negative)
        axes.plot(fall_out, sensitivity, "o", color=colour, markersize=7)


def draw_reliability(
    path: Path,
    before: EvaluationTables,
    after: EvaluationTables,
    postprocessing: Callable[[str], Postprocessing],
    *,
    bins: int,
    synthetic: bool,
) -> None:
    """Draw one panel per source; a dot's area is its share of the slices (DeGroot and Fienberg 1983).

    `before` has raw probabilities, `after` calibrated ones; `postprocessing` returns that of a source.
    """
    title = "Calibration of the slice probability"
    if CLASSIFICATION not in after.tasks:
        draw_message(path, title, _NO_CLASSIFICATION, synthetic=synthetic)
        return
    # Only the included slices have a prediction.
    raw, reported = (by_source(row for row in tables.slices if row.asked) for tables in (before, after))
    sources = [*by_source(after.slices)]
    with drawing(path, (max(5.0, 4.6 * len(sources)), 5.4), title, synthetic=synthetic) as figure:
        for axes, source in zip(figure.subplots(1, len(sources), squeeze=False)[0], sources, strict=True):
            rows, used = reported.get(source, []), postprocessing(source)
            axes.plot([0, 1], [0, 1], **_DIAGONAL)
            if used.calibrated:
                _draw_bins(axes, raw.get(source, []), bins, ORANGE, "before")
            _draw_bins(axes, rows, bins, BLUE, "after" if used.calibrated else "raw")
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="mean probability of the bin")
            axes.set_ylabel("share that is right" if after.slice_classes.several else "share of tumour")
            axes.set_aspect("equal")
            axes.grid(True)
            axes.legend(loc="best", handletextpad=0.4, frameon=True, framealpha=0.85)  # over the curves
            shift = f", logits shifted by {used.scaling.shift:+.2f}" if used.scaling.shift else ""
            scaling = f"temperature {used.scaling.temperature:.2f}{shift}"
            text = scaling if used.calibrated else NOT_CALIBRATED
            axes.set_title(f"{source}: {_describe_slices(rows)}\n{text}")


def _draw_bins(axes: Axes, rows: Sequence[SliceRow], bins: int, colour: str, name: str) -> None:
    if not rows:
        return
    labels = [row.label for row in rows]
    scores = [row.class_probabilities or row.probability for row in rows]
    table, error = reliability_curve(labels, scores, bins), expected_calibration_error(labels, scores, bins)
    filled = np.flatnonzero(table.counts)
    sizes = _SMALLEST_DOT + _DOT_AREA * table.counts[filled] / table.counts.sum()
    axes.plot(table.probability[filled], table.share[filled], color=colour, linewidth=1.5, alpha=0.7)
    axes.scatter(table.probability[filled], table.share[filled], sizes, colour, alpha=0.75, linewidths=0)
    axes.plot([], [], "o-", color=colour, label=f"{name}: ECE {error:.3f}")


def _describe_slices(rows: Sequence[SliceRow]) -> str:
    return describe_counts(len({row.patient for row in rows}), len(rows))
