"""The reliability diagram: probability against share of tumour, before and after calibration."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.tables import EvaluationTables, SliceRow, by_source, describe_counts
from slicewise.inference.calibration import (
    NOT_CALIBRATED,
    Scaling,
    expected_calibration_error,
    reliability_curve,
)
from slicewise.inference.postprocess import Postprocessing
from slicewise.plots.scores import NO_CLASSIFICATION
from slicewise.plots.style import BLUE, GREY, ORANGE, draw, draw_heading, draw_message

_TITLE = "Calibration of the slice probability"
_AREA = 260.0
_SMALLEST = 12.0


def draw_reliability(
    path: Path,
    before: EvaluationTables,
    after: EvaluationTables,
    postprocessing: Callable[[str], Postprocessing],
    *,
    bins: int,
    synthetic: bool,
) -> Path:
    """Draw one panel per source; a dot's area is its share of the slices (DeGroot and Fienberg 1983).

    Args:
        path: the PNG file.
        before: tables with raw probabilities.
        after: tables with calibrated ones.
        postprocessing: returns that of a source.
        bins: number of bins of equal width between 0 and 1.
        synthetic: whether the patients are generated.
    """
    if CLASSIFICATION not in after.tasks:
        return draw_message(path, _TITLE, NO_CLASSIFICATION, synthetic=synthetic)
    sources = sorted(by_source(after.slices))

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, len(sources), squeeze=False)[0]
        for axes, source in zip(panels, sources, strict=True):
            _panel(axes, source, before, after, postprocessing(source), bins)
        draw_heading(figure, _TITLE, synthetic=synthetic)

    return draw(path, (max(5.0, 4.6 * len(sources)), 5.4), paint)


def _panel(
    axes: Axes,
    source: str,
    before: EvaluationTables,
    after: EvaluationTables,
    postprocessing: Postprocessing,
    bins: int,
) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    rows, changed = _rows(source, after), postprocessing.calibrated
    if changed:
        _curve(axes, _rows(source, before), bins, ORANGE, "before")
    _curve(axes, rows, bins, BLUE, "after" if changed else "raw")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="mean probability of the bin")
    axes.set_ylabel("share of tumour")
    axes.set_aspect("equal")
    axes.grid(True)
    axes.legend(loc="best", handletextpad=0.4, frameon=True, framealpha=0.85)  # curves may run below it
    counts_text = describe_counts(len({row.patient for row in rows}), len(rows))
    scaling = postprocessing.scaling
    shift = f", logits shifted by {scaling.shift:+.2f}" if scaling.shift else ""
    text = NOT_CALIBRATED if scaling == Scaling() else f"temperature {scaling.temperature:.2f}{shift}"
    axes.set_title(f"{source}: {counts_text}\n{text}")


def _curve(axes: Axes, rows: Sequence[SliceRow], bins: int, colour: str, name: str) -> None:
    if not rows:
        return
    labels, scores = [row.label for row in rows], [row.probability for row in rows]
    table, error = reliability_curve(labels, scores, bins), expected_calibration_error(labels, scores, bins)
    filled = np.flatnonzero(table.counts)
    sizes = _SMALLEST + _AREA * table.counts[filled] / table.counts.sum()
    axes.plot(table.probability[filled], table.share[filled], color=colour, linewidth=1.5, alpha=0.7)
    axes.scatter(table.probability[filled], table.share[filled], sizes, colour, alpha=0.75, linewidths=0)
    axes.plot([], [], "o-", color=colour, label=f"{name}: ECE {error:.3f}")


def _rows(source: str, tables: EvaluationTables) -> list[SliceRow]:
    """Return the slices of a source with a prediction."""
    return [row for row in by_source(tables.slices)[source] if row.asked]
