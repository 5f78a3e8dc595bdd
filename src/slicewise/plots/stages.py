"""Figure of the training stages: one panel per source and score."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicewise.domain.scores import DICE, StageRow, score_name
from slicewise.plots.style import BLUE, GREY, ORANGE, draw, draw_heading


def draw_stages(
    path: Path, rows: Sequence[StageRow], counts_text: Mapping[str, str], *, synthetic: bool
) -> Path:
    """Draw each score with its interval, a panel per source and score; an untrained head gets no mark.

    `counts_text` says for each source how many patients or pictures there are: the rows count resampled
    units, where a family of pictures is one.
    """
    panels = sorted({(row.source, row.score) for row in rows})

    def paint(figure: Figure) -> None:
        grid = figure.subplots(max(1, len(panels)), 1, squeeze=False)[:, 0]
        for axes, panel in zip(grid[: len(panels)], panels, strict=True):
            own = [row for row in rows if (row.source, row.score) == panel]
            _paint_panel(axes, own, counts_text[panel[0]])
        draw_heading(figure, "Training stages on the same test slices", synthetic=synthetic)

    return draw(path, (7.5, 0.7 + 2.2 * max(1, len(panels))), paint)


def _paint_panel(axes: Axes, rows: Sequence[StageRow], counts_text: str) -> None:
    stages = [row for row in rows if not row.is_difference]
    for height, row in enumerate(stages):
        if row.value is None:
            axes.text(0.0, height, row.note, va="center", color=GREY, fontstyle="italic", fontsize=9)
            continue
        colour = BLUE if row.score == DICE else ORANGE
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [height, height], color=colour, linewidth=4, alpha=0.35)
        axes.plot(row.value, height, "o", color=colour, markersize=7)
        axes.text(1.03, height, row.value_text, va="center", fontsize=9)
    axes.set_yticks(range(len(stages)), [row.phase for row in stages])
    axes.set(xlim=(-0.02, 1.12), ylim=(len(stages) - 0.5, -0.5))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    name = f"{rows[0].source}: {score_name(max(rows, key=lambda row: len(row.condition or '')))}"
    axes.set_title(f"{name}, {counts_text}" if any(row.num_patients for row in stages) else name)
    gains = [
        f"{row.phase}: {row.value_text} ({row.interval_text}), paired" for row in rows if row.is_difference
    ]
    axes.set_xlabel("\n".join(gains), loc="left")
