"""Figures of scores: confusion matrices, Dice, ROC curves, calibration, IoU of failures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from slicewise.domain.classes import Classes
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.tables import (
    Estimate,
    EvaluationTables,
    FailedSlice,
    PatientRow,
    SliceRow,
    by_source,
    describe_counts,
    plural,
)
from slicewise.inference.calibration import NOT_CALIBRATED, expected_calibration_error, reliability_curve
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.confusion import (
    PixelCounts,
    accuracy,
    class_accuracy,
    count_confusion,
    iou_score,
    majority_accuracy,
)
from slicewise.plots.style import BLUE, GREY, ORANGE, PALE, SERIES, draw_message, drawing, hide_axes

_CLASSES: Final = ("no tumour", "tumour")
_NO_CLASSIFICATION: Final = "the model has no classification"
_DIAGONAL: Final[dict[str, Any]] = {"color": GREY, "linewidth": 1, "linestyle": (0, (4, 3))}
_FEWEST_FOR_BOX: Final = 5
_DOT_AREA, _SMALLEST_DOT = 260.0, 12.0  # of a bin with all slices, and of one with few
_BARS: Final = 20


def draw_confusion(path: Path, result: EvaluationTables, *, synthetic: bool) -> None:
    """Draw one confusion matrix per source: counts, and shares of each true class."""
    title, sources = "Slice classification", by_source(result.slices)
    if CLASSIFICATION not in result.tasks:
        draw_message(path, title, _NO_CLASSIFICATION, synthetic=synthetic)
        return
    with drawing(path, (max(4.4, 3.9 * len(sources)), 4.4), title, synthetic=synthetic) as figure:
        panels = figure.subplots(1, len(sources), squeeze=False)[0]
        for axes, (source, rows) in zip(panels, sources.items(), strict=True):
            _draw_matrix(axes, source, rows, _describe_slices(rows))


def draw_failure_confusion(
    path: Path, result: EvaluationTables, failures: Mapping[str, Sequence[SliceRow]], *, synthetic: bool
) -> None:
    """Draw the confusion matrix of all slices of each source, and below it that of its `failures`."""
    if CLASSIFICATION not in result.tasks:
        _draw_failed_pixels(path, result, failures, synthetic=synthetic)
        return
    title, sources = "Slice classification: all slices, and those that failed", by_source(result.slices)
    with drawing(path, (max(4.8, 4.2 * len(sources)), 8.4), title, synthetic=synthetic) as figure:
        grid = figure.subplots(2, len(sources), squeeze=False)
        for (above, below), (source, rows) in zip(grid.T, sources.items(), strict=True):
            _draw_matrix(above, f"{source}, all", rows, _describe_slices(rows))
            unit = "picture" if len({row.patient for row in rows}) == len(rows) else "slice"
            if failed := failures.get(source):
                _draw_matrix(below, f"{source}, failures", failed, plural(len(failed), unit))
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
                    _draw_cells(axes, cells, names)
                    axes.set_title(f"{source}, {what} ({len(own)}): accuracy {class_accuracy(cells):.1%}")
                else:
                    hide_axes(axes)
                    axes.text(0.5, 0.5, f"{source}: no failures", ha="center", color=GREY)


def _draw_matrix(axes: Axes, source: str, rows: Sequence[SliceRow], counts_text: str) -> None:
    cells = count_confusion([row.label for row in rows], [row.predicted for row in rows])
    share, base = float(accuracy(cells)), float(majority_accuracy(cells))
    _draw_cells(axes, np.array(cells, dtype=int).reshape(2, 2), _CLASSES)
    axes.set_title(f"{source}: {counts_text}\naccuracy {share:.1%} (majority class {base:.1%})")


def _draw_cells(axes: Axes, counts: NDArray[np.int64], names: Sequence[str]) -> None:
    """Draw a confusion matrix [C, C], the true classes down."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.6 else "black"
        text = f"{count:,}\n{shares[row, column]:.0%}"
        size = 12 if len(names) <= 3 else 8
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="true")


def draw_classes(path: Path, classes: Classes, pixels: Mapping[str, PixelCounts], *, synthetic: bool) -> None:
    """Draw per source the IoU of each class over all pixels, and the confusion of exclusive classes.

    Classes that may overlap have no confusion matrix.
    """
    columns = 2 if classes.exclusive else 1
    size = (5.5 * columns, 0.8 + 4.2 * len(pixels))
    names = [name.replace("_", " ") for name in classes.with_absence]
    with drawing(path, size, "Classes, all test pixels of a source together", synthetic=synthetic) as figure:
        grid = figure.subplots(len(pixels), columns, squeeze=False)
        for (bars, *matrix), (source, counts) in zip(grid, pixels.items(), strict=True):
            values = iou_score(counts.overlap).tolist()
            colours = [tuple(part / 255 for part in each) for each in classes.colours]
            bars.barh(range(len(values)), values, color=colours, height=0.65)
            for place, value in enumerate(values):
                bars.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize=9)
            bars.set_yticks(range(len(values)), names[1:])
            bars.set(xlim=(0, 1.1), ylim=(len(values) - 0.4, -0.6), xlabel="IoU")
            bars.set_title(f"{source}: mean IoU of the classes {np.mean(values):.2f}")
            if counts.cells is not None:
                _draw_cells(matrix[0], counts.cells, names)
                matrix[0].set_title(f"pixels, accuracy {float(class_accuracy(counts.cells)):.1%}")


def draw_dice(path: Path, result: EvaluationTables, *, synthetic: bool) -> None:
    """Draw Dice and IoU per patient, a dot each, with the quartiles where there are enough.

    Of several classes it is the Dice of each.
    """
    sources = by_source(row for row in result.patients if row.dice is not None)
    lines = max(1, len(sources))
    number = max([2, *(len(_strips(rows)) for rows in sources.values())])
    size = (7.5, 1.2 + (0.4 + 0.9 * number) * lines)
    with drawing(path, size, "Segmentation overlap", synthetic=synthetic) as figure:
        panels = figure.subplots(lines, 1, squeeze=False, sharex=True)[:, 0]
        if not sources:
            is_task = SEGMENTATION in result.tasks
            words = "no test patient has a mask" if is_task else "the model has no segmentation"
            panels[0].text(0.5, 0.5, words, ha="center")
        for axes, (source, rows) in zip(panels, sources.items(), strict=False):
            _draw_strips(axes, source, rows)
        panels[-1].set_xlabel(
            "score per patient, all slices pooled; black: median, grey: quartiles and range"
        )


def _strips(rows: Sequence[PatientRow]) -> list[tuple[str, str, Any]]:
    """Return the scores that are drawn, lowest first: name, label and colour."""
    names = tuple(name.removeprefix("dice_") for name in rows[0].scores if name.startswith("dice_"))
    if not names:
        return [("iou", "IoU", ORANGE), ("dice", "Dice", BLUE)]
    colours = [tuple(part / 255 for part in colour) for colour in Classes(names).colours]
    labels = [f"Dice, {name.replace('_', ' ')}" for name in names]
    return [*zip((f"dice_{name}" for name in names), labels, colours, strict=True)][::-1]


def _draw_strips(axes: Axes, source: str, rows: Sequence[PatientRow]) -> None:
    strips = _strips(rows)
    for height, (name, _, colour) in enumerate(strips):
        values = np.array([row.scores[name] for row in rows], dtype=np.float64)
        size, alpha = (28, 0.9) if len(values) <= 30 else (12, 0.5)
        dots = height - 0.06 + _stack(values)
        axes.scatter(values, dots, s=size, color=colour, alpha=alpha, linewidths=0, zorder=3)
        place = height - 0.3
        low, lower, median, upper, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
        if len(values) >= _FEWEST_FOR_BOX:
            axes.plot([low, high], [place, place], color=GREY, linewidth=1)
            axes.plot(
                [lower, upper], [place, place], color=PALE, linewidth=9, solid_capstyle="butt", zorder=2
            )
        axes.plot([median, median], [place - 0.09, place + 0.09], color="black", linewidth=2, zorder=4)
    axes.set_yticks(range(len(strips)), [label for _, label, _ in strips])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.55, len(strips) - 0.5))
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    empty = sum(bool(row.empty_reference) for row in rows)
    note = f", {empty} without tumour in the reference" if empty else ""
    dice = np.median([row.dice for row in rows if row.dice is not None])
    axes.set_title(f"{source}: {plural(len(rows), 'patient')}, median Dice {dice:.2f}{note}")


def _stack(values: NDArray[np.float64], reach: float = 0.28, bins: int = 50) -> NDArray[np.float64]:
    """Return upward shifts that stack dots of nearly equal value: no dot hides another."""
    place = np.minimum((values * bins).astype(int), bins - 1)
    rank = np.zeros(len(values))
    for cell in np.unique(place):
        rank[place == cell] = np.arange(np.count_nonzero(place == cell))
    rank *= min(0.09, reach / max(1.0, rank.max()))
    return rank


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
    title = "Tumour or not, per slice"
    if CLASSIFICATION not in result.tasks:
        draw_message(path, title, _NO_CLASSIFICATION, synthetic=synthetic)
        return
    with drawing(path, (5.8, 6.0), title, synthetic=synthetic) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], label="chance", **_DIAGONAL)
        for place, (source, rows) in enumerate(by_source(result.slices).items()):
            _draw_roc_curve(axes, source, rows, aucs[source], SERIES[place % len(SERIES)], pooled=pooled)
        axes.set(xlabel="1 − specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_aspect("equal")
        axes.grid(True)
        axes.legend(loc="lower right", title=None if pooled else "dot: operating point")


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
    if not pooled and len(set(labels)) == len(_CLASSES):
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
            axes.set_ylabel("share of tumour")
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
    labels, scores = [row.label for row in rows], [row.probability for row in rows]
    table, error = reliability_curve(labels, scores, bins), expected_calibration_error(labels, scores, bins)
    filled = np.flatnonzero(table.counts)
    sizes = _SMALLEST_DOT + _DOT_AREA * table.counts[filled] / table.counts.sum()
    axes.plot(table.probability[filled], table.share[filled], color=colour, linewidth=1.5, alpha=0.7)
    axes.scatter(table.probability[filled], table.share[filled], sizes, colour, alpha=0.75, linewidths=0)
    axes.plot([], [], "o-", color=colour, label=f"{name}: ECE {error:.3f}")


def draw_iou_bars(
    path: Path, slices: Sequence[FailedSlice], patients: Sequence[PatientRow], *, synthetic: bool
) -> None:
    """Draw the IoU of failed patients and of failed slices with some overlap as bars, the worst first."""
    masked = [row for row in slices if row.dice is not None]
    overlapping = [(f"{row.case}, slice {row.index}", iou) for row in masked if (iou := row.scores["iou"])]
    none = len(masked) - len(overlapping)
    failed = [(f"{row.source}/{row.patient}", row.scores["iou"] or 0.0) for row in patients]
    of_slices = f"{plural(len(masked), 'slice')} failed, {none} of them with IoU 0; the others:"
    panels = ((f"{plural(len(patients), 'patient')} failed", failed, BLUE), (of_slices, overlapping, ORANGE))
    heights = [max(2, min(len(bars), _BARS)) for _, bars, _ in panels]
    size = (7.5, 1.8 + 0.26 * sum(heights))
    with drawing(path, size, "IoU of the failures", synthetic=synthetic) as figure:
        grid = figure.subplots(2, 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for axes, (name, bars, colour) in zip(grid, panels, strict=True):
            shown = bars[:_BARS]
            axes.barh(range(len(shown)), [value for _, value in shown], color=colour, height=0.65)
            for height, (_, value) in enumerate(shown):
                axes.text(value + 0.01, height, f"{value:.2f}", va="center", fontsize=8)
            axes.set_yticks(range(len(shown)), [label for label, _ in shown], fontsize=8)
            axes.set(xlim=(0, 1), ylim=(max(len(shown), 1) - 0.4, -0.6))
            axes.tick_params(axis="y", length=0)
            axes.grid(True, axis="x")
            axes.set_title(name + (f" the worst {len(shown)}" if len(bars) > len(shown) else ""))
        grid[-1].set_xlabel("IoU")


def _describe_slices(rows: Sequence[SliceRow]) -> str:
    return describe_counts(len({row.patient for row in rows}), len(rows))
