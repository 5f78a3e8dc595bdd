"""The phase comparison as a table for people, for machines and as a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicewise.core.files import write_json, write_text
from slicewise.domain.scores import SCORE_NAMES
from slicewise.domain.tables import SliceRow, by_source, describe_counts, write_rows
from slicewise.evaluation.comparison.stages import StageResult, StageRow, compare_stages
from slicewise.plots.style import BLUE, GREY, ORANGE, draw, draw_heading


def score_name(row: StageRow) -> str:
    """Return the name of a score with the threshold behind it, which that of the final scores may not be."""
    name = SCORE_NAMES.get(row.score, row.score)
    return f"{name} ({row.condition})" if row.condition else name


def write_stage_comparison(folder: Path, stages: Sequence[StageResult], *, synthetic: bool) -> list[StageRow]:
    """Write phase_comparison.csv, .json, .md and .png into `folder`; return the rows."""
    rows = compare_stages(stages)
    write_rows(folder / "phase_comparison.csv", rows, StageRow)
    write_json(
        folder / "phase_comparison.json", {"synthetic": synthetic, "rows": [asdict(row) for row in rows]}
    )
    write_text(folder / "phase_comparison.md", to_markdown(rows, synthetic=synthetic))
    counts_text = {
        source: _counts_text(slices) for source, slices in by_source(stages[0].result.slices).items()
    }
    draw_stages(folder / "phase_comparison.png", rows, counts_text, synthetic=synthetic)
    return rows


def to_markdown(rows: Sequence[StageRow], *, synthetic: bool) -> str:
    """Return the comparison as a GitHub table, one line per score and phase."""
    lines = [
        "# Training phases on the same test slices" + (" (synthetic data)" if synthetic else ""),
        "",
        "| source | score | phase | value | interval | p | patients, or families of pictures | note |",
        "|---|---|---|---:|---|---:|---:|---|",
    ]
    lines += [
        f"| {row.source} | {score_name(row)} | {row.phase} | {_number(row)} | {_interval(row)} "
        f"| {_p_value(row)} | {row.num_patients or '–'} | {row.note} |"
        for row in rows
    ]
    return "\n".join(
        [
            *lines,
            "",
            "Intervals: patient bootstrap; differences are paired. p: Wilcoxon. Thresholds: as configured;",
            "what was chosen for the last stage suits no other.",
            "",
        ]
    )


def draw_stages(
    path: Path, rows: Sequence[StageRow], counts_text: Mapping[str, str], *, synthetic: bool
) -> Path:
    """Draw each score with its interval, a panel per source and score; an untrained head gets no mark.

    `who` says of each source whom the titles name: all its patients, or pictures. The rows cannot tell, for
    they count what is resampled, and a family of pictures is one.
    """
    panels = sorted({(row.source, row.score) for row in rows})

    def paint(figure: Figure) -> None:
        grid = figure.subplots(max(1, len(panels)), 1, squeeze=False)[:, 0]
        for axes, (source, score) in zip(grid[: len(panels)], panels, strict=True):
            _panel(
                axes, [row for row in rows if (row.source, row.score) == (source, score)], counts_text[source]
            )
        draw_heading(figure, "Training phases on the same test slices", synthetic=synthetic)

    return draw(path, (7.5, 0.7 + 2.2 * max(1, len(panels))), paint)


def _counts_text(slices: Sequence[SliceRow]) -> str:
    return describe_counts(len({row.patient for row in slices}), len(slices))


def _panel(axes: Axes, rows: Sequence[StageRow], counts_text: str) -> None:
    stages = [row for row in rows if " - " not in row.phase]
    for place, row in enumerate(stages):
        _mark(axes, place, row)
    axes.set_yticks(range(len(stages)), [row.phase for row in stages])
    axes.set(xlim=(-0.02, 1.12), ylim=(len(stages) - 0.5, -0.5))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    name = f"{rows[0].source}: {score_name(max(rows, key=lambda row: len(row.condition or '')))}"
    axes.set_title(f"{name}, {counts_text}" if any(row.num_patients for row in stages) else name)
    gains = [f"{row.phase}: {_number(row)} ({_interval(row)}), paired" for row in rows if " - " in row.phase]
    axes.set_xlabel("\n".join(gains), loc="left")


def _mark(axes: Axes, height: float, row: StageRow) -> None:
    if row.value is None:
        axes.text(0.0, height, row.note, va="center", color=GREY, fontstyle="italic", fontsize=9)
        return
    colour = BLUE if row.score == "dice_per_patient" else ORANGE
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [height, height], color=colour, linewidth=4, alpha=0.35)
    axes.plot(row.value, height, "o", color=colour, markersize=7)
    axes.text(1.03, height, f"{row.value:.3f}", va="center", fontsize=9)


def _number(row: StageRow) -> str:
    if row.value is None:
        return "–"
    return f"{row.value:{'+' if ' - ' in row.phase else ''}.3f}"


def _p_value(row: StageRow) -> str:
    return "–" if row.p_value is None else "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}"


def _interval(row: StageRow) -> str:
    if row.low is None or row.high is None:
        return "–"
    sign = "+" if " - " in row.phase else ""
    return f"{row.low:{sign}.3f} to {row.high:{sign}.3f}"
