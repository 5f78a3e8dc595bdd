"""Figures of variants: scores with intervals, dots of the patients, differences to the first variant."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes

from slicewise.domain.tables import ComparisonRow, plural
from slicewise.metrics.table import score_label
from slicewise.plots.style import BLUE, GREY, ORANGE, drawing

_SPREAD: Final = 0.7
_INCHES_PER_SEED: Final = 0.16  # height of the numbers beside a dot
_Scores = Mapping[tuple[str, str, str, int], Sequence[float]]
"""Scores of patients by source, score, variant and seed"""


def draw_comparison(
    path: Path,
    rows: Sequence[ComparisonRow],
    title: str,
    scores: _Scores,
    *,
    synthetic: bool,
) -> None:
    """Draw each score with its interval, beside it the number and the paired difference to the first.

    `scores` are those of the patients, a small dot each, by source, score, variant and seed.
    """
    panels: dict[tuple[str, str], list[ComparisonRow]] = {}
    for row in rows:
        panels.setdefault((row.source, row.score), []).append(row)
    num_seeds = len({row.seed for row in rows})
    height = max(0.3, num_seeds * _INCHES_PER_SEED / _SPREAD)
    heights = [0.9 + height * len({row.variant for row in own if not row.minus}) for own in panels.values()]
    with drawing(path, (8.8, 0.7 + sum(heights)), title, synthetic=synthetic) as figure:
        grid = figure.subplots(max(1, len(panels)), 1, squeeze=False, height_ratios=heights or [1])[:, 0]
        for axes, own in zip(grid, panels.values(), strict=False):  # without panels there is one empty grid
            _draw_panel(axes, own, scores)


def _draw_panel(axes: Axes, rows: Sequence[ComparisonRow], scores: _Scores) -> None:
    differences = {(row.variant, row.seed): row for row in rows if row.minus}
    variants = list(dict.fromkeys(row.variant for row in rows if not row.minus))
    for place, variant in enumerate(variants):
        own = [row for row in rows if row.variant == variant and not row.minus]
        for number, row in enumerate(own):
            height = place + _SPREAD * ((number + 0.5) / len(own) - 0.5)
            values = scores.get((row.source, row.score, variant, row.seed), ())
            axes.plot(values, [height] * len(values), "o", color=GREY, markersize=4, alpha=0.45, mew=0)
            _mark(axes, height, row, differences.get((variant, row.seed)))
    axes.set_yticks(range(len(variants)), variants)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(variants) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    conditions = {row.condition for row in rows if row.condition}
    condition = f" ({conditions.pop()})" if len(conditions) == 1 else ""
    num_units, num_slices = max(row.num_patients for row in rows), max(row.num_slices for row in rows)
    units = "1 patient or family" if num_units == 1 else f"{num_units} patients or families"
    counts = f"{units}, {plural(num_slices, 'slice')}"
    if num_units == num_slices:
        counts = plural(num_slices, "picture")
    axes.set_title(f"{rows[0].source}: {score_label(rows[0].score)}{condition}, {counts}", fontsize=10)


def _mark(axes: Axes, height: float, row: ComparisonRow, difference: ComparisonRow | None) -> None:
    if row.value is None:
        axes.text(0.0, height, row.note, va="center", color=GREY, fontstyle="italic", fontsize=9)
        return
    colour = BLUE if "_per_" in row.score else ORANGE
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [height, height], color=colour, linewidth=3, alpha=0.35)
    axes.plot(row.value, height, "o", color=colour, markersize=6)
    text = row.value_text
    if difference and difference.value is not None:
        interval = "" if difference.low is None else f", {difference.interval_text}"
        text += f"  ({difference.value_text}{interval})"
    axes.annotate(text, (1.02, height), xycoords=("axes fraction", "data"), va="center", fontsize=8)
