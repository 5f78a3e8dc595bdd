"""Figures of failures: images with masks, IoU as bars, confusion matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.tables import (
    EvaluationTables,
    FailedSlice,
    PatientRow,
    SliceRow,
    by_source,
    describe_counts,
    plural,
)
from slicewise.plots.sample_predictions import draw_grey
from slicewise.plots.scores import NO_CLASSIFICATION, paint_confusion
from slicewise.plots.style import (
    BLUE,
    GREY,
    ORANGE,
    PREDICTION,
    TRUTH,
    draw,
    draw_heading,
    draw_message,
    hide_axes,
)

_PER_LINE: Final = 2
_BARS: Final = 20


@dataclass(frozen=True)
class FailurePicture:
    """One failed slice, all arrays [N, N]; `reference` is None where there is no mask."""

    row: FailedSlice
    grey: NDArray[np.float32]
    reference: NDArray[np.bool_] | None
    predicted: NDArray[np.bool_]


def draw_failures(
    path: Path, pictures: Sequence[FailurePicture], num_failed: int, *, synthetic: bool
) -> Path:
    """Draw image, reference and prediction of each failure, two failures a line."""
    lines = max(1, -(-len(pictures) // _PER_LINE))

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.06)
        grid = figure.subplots(lines, 3 * _PER_LINE, squeeze=False)
        for axes in grid.flat:
            hide_axes(axes)
        if not pictures:
            grid[0, 0].text(0, 0.5, "none is shown" if num_failed else "no slice failed")
        for place, picture in enumerate(pictures):
            first = 3 * (place % _PER_LINE)
            _paint_failure(list(grid[place // _PER_LINE, first : first + 3]), picture)
        draw_heading(figure, "Failures: image, reference, prediction", synthetic=synthetic)

    return draw(path, (12.4, 0.6 + 2.35 * lines), paint)


def _paint_failure(panels: Sequence[Axes], picture: FailurePicture) -> None:
    row = picture.row
    labels = ["image", "reference", "prediction"]
    if picture.reference is None:
        names = ("no tumour", "tumour")
        labels[1:] = [f"truly {names[row.label]}", f"called {names[row.predicted]} ({row.probability:.2f})"]
    masks = (None, picture.reference, picture.predicted)
    for axes, label, mask, colour in zip(panels, labels, masks, (None, TRUTH, PREDICTION), strict=True):
        draw_grey(axes, picture.grey)
        axes.set_xlabel(label, fontsize=8, color=GREY)
        if mask is not None and colour is not None:
            layer = np.zeros((*mask.shape, 4))
            layer[mask] = (*colour, 0.55)
            axes.imshow(layer, interpolation="nearest")
    score = "" if row.dice is None else f", Dice {row.dice:.2f}"
    panels[0].set_title(f"{row.case}, slice {row.index}: {row.kind}{score}", fontsize=9)


def draw_iou_bars(
    path: Path, slices: Sequence[FailedSlice], patients: Sequence[PatientRow], *, synthetic: bool
) -> Path:
    """Draw the IoU of failed patients and of failed slices with some overlap as bars, the worst first."""
    masked = [row for row in slices if row.dice is not None]
    overlapping = [(f"{row.case}, slice {row.index}", iou) for row in masked if (iou := row.scores["iou"])]
    none = len(masked) - len(overlapping)
    panels = (
        (
            f"{plural(len(patients), 'patient')} failed",
            [(f"{p.source}/{p.patient}", p.scores["iou"] or 0.0) for p in patients],
            BLUE,
        ),
        (
            f"{plural(len(masked), 'slice')} failed, {none} of them with IoU 0; the others:",
            overlapping,
            ORANGE,
        ),
    )
    heights = [max(2, min(len(bars), _BARS)) for _, bars, _ in panels]

    def paint(figure: Figure) -> None:
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
        draw_heading(figure, "IoU of the failures", synthetic=synthetic)

    return draw(path, (7.5, 1.8 + 0.26 * sum(heights)), paint)


def draw_failure_confusion(
    path: Path, result: EvaluationTables, failures: Mapping[str, Sequence[SliceRow]], *, synthetic: bool
) -> Path:
    """Draw the confusion matrix of all slices of each source, and below it that of its `failures`."""
    title = "Slice classification: all slices, and those that failed"
    if CLASSIFICATION not in result.tasks:
        return draw_message(path, title, NO_CLASSIFICATION, synthetic=synthetic)
    sources = by_source(result.slices)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(2, len(sources), squeeze=False)
        for column, (source, rows) in enumerate(sources.items()):
            num_patients = len({row.patient for row in rows})
            unit = "picture" if num_patients == len(rows) else "slice"
            paint_confusion(grid[0, column], f"{source}, all", rows, describe_counts(num_patients, len(rows)))
            if failed := failures.get(source):
                paint_confusion(grid[1, column], f"{source}, failures", failed, plural(len(failed), unit))
            else:
                hide_axes(grid[1, column])
                grid[1, column].text(0.5, 0.5, f"{source}: no failures", ha="center", color=GREY)
        draw_heading(figure, title, synthetic=synthetic)

    return draw(path, (max(4.8, 4.2 * len(sources)), 8.4), paint)
