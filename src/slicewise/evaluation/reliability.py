"""The reliability diagram: probability against share of tumour, before and after the choices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicewise.core.labels import CLASSIFICATION
from slicewise.evaluation.calibration import RAW, Scaling, expected_calibration_error, reliability
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.figures import NOT_TRAINED
from slicewise.evaluation.final import FinalResult
from slicewise.evaluation.rows import SliceRow, by_source, population
from slicewise.evaluation.style import BLUE, GREY, ORANGE, draw, draw_words, heading

_TITLE = "Calibration of the slice probability"
_AREA = 260.0
_SMALLEST = 12.0


def draw_reliability(path: Path, final: FinalResult, *, synthetic: bool) -> Path:
    """Draw one panel per source; a dot's area is its share of the slices (DeGroot and Fienberg 1983)."""
    if CLASSIFICATION in final.after.not_trained:
        return draw_words(path, _TITLE, NOT_TRAINED, synthetic=synthetic)
    sources = sorted(by_source(final.after.slices))

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, len(sources), squeeze=False)[0]
        for axes, source in zip(panels, sources, strict=True):
            _panel(axes, source, final)
        heading(figure, _TITLE, synthetic=synthetic)

    return draw(path, (max(5.0, 4.6 * len(sources)), 5.4), paint)


def _panel(axes: Axes, source: str, final: FinalResult) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    decision = final.choices.decision(source)
    changed = decision.calibrated
    if changed:
        _curve(axes, _rows(source, final.before), final.before, ORANGE, "before")
    _curve(axes, _rows(source, final.after), final.after, BLUE, "after" if changed else "raw")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="mean probability of the bin")
    axes.set_ylabel("share of tumour")
    axes.set_aspect("equal")
    axes.grid(True)
    axes.legend(loc="best", handletextpad=0.4, frameon=True, framealpha=0.85)  # curves may run below it
    rows = _rows(source, final.after)
    who = population(len({row.patient for row in rows}), len(rows))
    axes.set_title(f"{source}: {who}\n{_words(decision.scaling)}")


def _words(scaling: Scaling) -> str:
    if scaling == Scaling():
        return RAW
    shift = f", logits moved by {scaling.shift:+.2f}" if scaling.shift else ""
    return f"temperature {scaling.temperature:.2f}{shift}"


def _curve(axes: Axes, rows: Sequence[SliceRow], result: EvaluationResult, colour: str, name: str) -> None:
    if not rows:
        return
    labels, scores = [row.label for row in rows], [row.probability for row in rows]
    bins = result.settings.calibration_bins
    table, error = reliability(labels, scores, bins), expected_calibration_error(labels, scores, bins)
    filled = np.flatnonzero(table.counts)
    sizes = _SMALLEST + _AREA * table.counts[filled] / table.counts.sum()
    axes.plot(table.probability[filled], table.share[filled], color=colour, linewidth=1.5, alpha=0.7)
    axes.scatter(
        table.probability[filled], table.share[filled], s=sizes, color=colour, alpha=0.75, linewidths=0
    )
    axes.plot([], [], "o-", color=colour, label=f"{name}: ECE {error:.3f}")


def _rows(source: str, result: EvaluationResult) -> list[SliceRow]:
    """Return the slices of a source that the network was asked about."""
    return [row for row in by_source(result.slices)[source] if row.asked]
