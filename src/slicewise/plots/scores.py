"""Figures of scores: Dice, classes of pixels, IoU of failures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from slicewise.domain.classes import Classes
from slicewise.domain.labels import SEGMENTATION
from slicewise.domain.tables import (
    EvaluationTables,
    FailedSlice,
    PatientRow,
    by_source,
    plural,
)
from slicewise.domain.wording import is_of_pictures
from slicewise.metrics.confusion import (
    PixelCounts,
    class_accuracy,
    iou_score,
)
from slicewise.plots.classification import draw_cells
from slicewise.plots.style import BLUE, GREY, ORANGE, PALE, drawing

_FEWEST_FOR_BOX: Final = 5
_BARS: Final = 20


def draw_classes(path: Path, classes: Classes, pixels: Mapping[str, PixelCounts], *, synthetic: bool) -> None:
    """Draw per source the IoU of each class over all pixels, and their confusion.

    Classes that may overlap have none.
    """
    columns = 2 if any(counts.cells is not None for counts in pixels.values()) else 1
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
                draw_cells(matrix[0], counts.cells, names)
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
        boxed = any(len(rows) >= _FEWEST_FOR_BOX for rows in sources.values())
        legend = "black: median, grey: quartiles and range" if boxed else "black: median"
        panels[-1].set_xlabel(f"score per patient, all slices pooled; {legend}")


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


def draw_iou_bars(
    path: Path, slices: Sequence[FailedSlice], patients: Sequence[PatientRow], *, synthetic: bool
) -> None:
    """Draw the IoU of failed patients and of failed slices with some overlap as bars, the worst first.

    Where each patient is a picture, these are the same, and only the former are drawn.
    """
    masked = [row for row in slices if row.dice is not None]
    overlapping = [(f"{row.case}, slice {row.index}", iou) for row in masked if (iou := row.scores["iou"])]
    none = len(masked) - len(overlapping)
    failed = [(f"{row.source}/{row.patient}", row.scores["iou"] or 0.0) for row in patients]
    of_slices = f"{plural(len(masked), 'slice')} failed, {none} of them with IoU 0; the others:"
    panels = [(f"{plural(len(patients), 'patient')} failed", failed, BLUE), (of_slices, overlapping, ORANGE)]
    if is_of_pictures() and len(patients) == len(masked):
        del panels[1]
    heights = [max(2, min(len(bars), _BARS)) for _, bars, _ in panels]
    size = (7.5, 1.8 + 0.26 * sum(heights))
    with drawing(path, size, "IoU of the failures", synthetic=synthetic) as figure:
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
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
