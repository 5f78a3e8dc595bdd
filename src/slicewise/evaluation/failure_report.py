"""The failures as tables, as a report and as pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from slicewise.core.files import write_text
from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.tables import by_source, describe_counts, plural, write_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.failures import (
    FailedPatient,
    FailedSlice,
    FailureAnalysis,
    TraitRow,
    failed_rows,
)
from slicewise.plots.sample_predictions import draw_grey
from slicewise.plots.scores import NOT_TRAINED, paint_confusion
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

_PAIRS_PER_LINE: Final = 2
_BARS: Final = 20
_COLUMNS: Final = ("image", "reference", "prediction")
_WIDTH: Final = 96


@dataclass(frozen=True)
class FailurePicture:
    """One failure to look at; `reference` is None where the source has no masks."""

    row: FailedSlice
    grey: NDArray[np.float32]
    reference: NDArray[np.bool_] | None
    predicted: NDArray[np.bool_]


def select_failures(analysis: FailureAnalysis, number: int) -> list[FailedSlice]:
    """Choose what to draw: the worst slice of each patient, then second ones; every source has its share."""
    turns: dict[tuple[str, str], int] = {}
    ranked: list[tuple[int, int, FailedSlice]] = []
    for place, row in enumerate(analysis.slices):
        turn = turns[row.source, row.patient] = turns.get((row.source, row.patient), -1) + 1
        ranked.append((turn, place, row))
    sources = by_source([row for _, _, row in sorted(ranked, key=lambda item: item[:2])])
    if not sources:
        return []
    share = -(-number // len(sources))
    chosen = [row for rows in sources.values() for row in rows[:share]]
    return chosen[:number]


def write_failures(
    folder: Path,
    result: EvaluationResult,
    analysis: FailureAnalysis,
    pictures: Sequence[FailurePicture],
    *,
    synthetic: bool,
) -> dict[str, Any]:
    """Write report.txt, three tables and three figures into `folder`; return counts for the record."""
    write_text(folder / "report.txt", "\n".join(_lines(analysis, synthetic=synthetic)) + "\n")
    write_rows(folder / "slices.csv", analysis.slices, FailedSlice)
    write_rows(folder / "patients.csv", analysis.patients, FailedPatient)
    write_rows(folder / "traits.csv", analysis.traits, TraitRow)
    _draw_pictures(folder / "failures.png", pictures, len(analysis.slices), synthetic=synthetic)
    _draw_bars(folder / "iou_of_failures.png", analysis, synthetic=synthetic)
    _draw_confusion(folder / "confusion_matrices.png", result, analysis.threshold, synthetic=synthetic)
    return {
        "dice_below": analysis.threshold,
        "num_slices": len(analysis.slices),
        "num_patients": len(analysis.patients),
    }


def _lines(analysis: FailureAnalysis, *, synthetic: bool) -> Iterator[str]:
    yield "Failures on the test patients" + (" (synthetic data)" if synthetic else "")
    yield "=" * _WIDTH
    yield f"A mask fails below a Dice of {analysis.threshold:g}; without a mask, a wrong class fails."
    yield "Slices in which neither reference nor prediction has a tumour are not judged."
    failed = by_source(analysis.slices)
    for source, number in analysis.num_judged.items():
        rows = failed.get(source, [])
        kinds = sorted({row.kind for row in rows})
        counts = ", ".join(f"{sum(row.kind == kind for row in rows)} {kind}" for kind in kinds)
        yield f"{source}: {len(rows)} of {plural(number, 'slice')} failed" + (
            f" ({counts})" if counts else ""
        )
    names = ", ".join(f"{row.source}/{row.patient} ({row.dice:.2f})" for row in analysis.patients)
    yield f"patients that failed: {names or 'none'}"
    yield ""
    yield from _trait_lines(analysis.traits)


def _trait_lines(rows: Sequence[TraitRow]) -> Iterator[str]:
    if not rows:
        yield "Nothing to compare: there are no failures, or nothing but failures."
        return
    yield "What the failures have in common, strongest first (medians; shares of yes-or-no traits):"
    yield f"{'':<8}{'source':<18}{'trait':<41}{'failed':>9}{'rest':>9}  effect"
    for row in rows:
        yield (
            f"{row.level:<8}{row.source:<18}{row.trait:<41}{row.failed:>9.3g}{row.rest:>9.3g}  "
            f"{row.effect:+.2f} {row.strength} ({row.num_failed} against {row.num_rest})"
        )
    yield ""
    yield "effect: Cliff's delta. Slices of one patient resemble each other: few patients prove little."


def _draw_pictures(
    path: Path, pictures: Sequence[FailurePicture], num_failed: int, *, synthetic: bool
) -> Path:
    lines = max(1, -(-len(pictures) // _PAIRS_PER_LINE))

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.06)
        grid = figure.subplots(lines, 3 * _PAIRS_PER_LINE, squeeze=False)
        for axes in grid.flat:
            hide_axes(axes)
        if not pictures:
            grid[0, 0].text(0, 0.5, "none is shown" if num_failed else "no slice failed")
        for place, picture in enumerate(pictures):
            first = 3 * (place % _PAIRS_PER_LINE)
            _paint_failure(list(grid[place // _PAIRS_PER_LINE, first : first + 3]), picture)
        draw_heading(figure, "Failures: image, reference, prediction", synthetic=synthetic)

    return draw(path, (12.4, 0.6 + 2.35 * lines), paint)


def _paint_failure(panels: Sequence[Axes], picture: FailurePicture) -> None:
    row = picture.row
    for axes, name in zip(panels, _COLUMNS, strict=True):
        draw_grey(axes, picture.grey)
        axes.set_xlabel(name, fontsize=8, color=GREY)
    _fill(panels[2], picture.predicted, PREDICTION)
    if picture.reference is None:
        names = ("no tumour", "tumour")
        panels[1].set_xlabel(f"truly {names[row.label]}", fontsize=8, color=GREY)
        panels[2].set_xlabel(f"called {names[row.predicted]} ({row.probability:.2f})", fontsize=8, color=GREY)
    else:
        _fill(panels[1], picture.reference, TRUTH)
    score = "" if row.dice is None else f", Dice {row.dice:.2f}"
    panels[0].set_title(f"{row.case}, slice {row.index}: {row.kind}{score}", fontsize=9)


def _fill(axes: Axes, mask: NDArray[np.bool_], colour: tuple[float, ...]) -> None:
    layer = np.zeros((*mask.shape, 4))
    layer[mask] = (*colour, 0.55)
    axes.imshow(layer, interpolation="nearest")


def _draw_bars(path: Path, analysis: FailureAnalysis, *, synthetic: bool) -> Path:
    patients = [(f"{row.source}/{row.patient}", row.iou) for row in analysis.patients]
    masked = [row for row in analysis.slices if row.iou is not None]
    overlapping = [(f"{row.case}, slice {row.index}", row.iou or 0.0) for row in masked if row.iou]
    tables = (
        (f"{plural(len(patients), 'patient')} failed", patients, BLUE),
        (
            f"{plural(len(masked), 'slice')} failed, {len(masked) - len(overlapping)} of them with IoU 0; "
            "the others:",
            overlapping,
            ORANGE,
        ),
    )

    def paint(figure: Figure) -> None:
        heights = [max(2, min(len(rows), _BARS)) for _, rows, _ in tables]
        panels = figure.subplots(2, 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for axes, (name, rows, colour) in zip(panels, tables, strict=True):
            _bars(axes, name, rows, colour)
        panels[-1].set_xlabel("IoU")
        draw_heading(figure, "IoU of the failures", synthetic=synthetic)

    bars = sum(max(2, min(len(rows), _BARS)) for _, rows, _ in tables)
    return draw(path, (7.5, 1.8 + 0.26 * bars), paint)


def _bars(axes: Axes, name: str, rows: Sequence[tuple[str, float]], colour: str) -> None:
    shown = rows[:_BARS]
    values = [value for _, value in shown]
    axes.barh(range(len(shown)), values, color=colour, height=0.65)
    for height, value in enumerate(values):
        axes.text(value + 0.01, height, f"{value:.2f}", va="center", fontsize=8)
    axes.set_yticks(range(len(shown)), [label for label, _ in shown], fontsize=8)
    axes.set(xlim=(0, 1), ylim=(max(len(shown), 1) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    axes.set_title(name + (f" the worst {len(shown)}" if len(rows) > len(shown) else ""))


def _draw_confusion(path: Path, result: EvaluationResult, threshold: float, *, synthetic: bool) -> Path:
    title = "Slice classification: all slices, and those that failed"
    if CLASSIFICATION in result.not_trained:
        return draw_message(path, title, NOT_TRAINED, synthetic=synthetic)
    sources = by_source(result.slices)
    failures = by_source(failed_rows(result, threshold))

    def paint(figure: Figure) -> None:
        grid = figure.subplots(2, len(sources), squeeze=False)
        for column, (source, rows) in enumerate(sources.items()):
            num_patients = len({row.patient for row in rows})
            unit = "picture" if num_patients == len(rows) else "slice"
            paint_confusion(grid[0, column], f"{source}, all", rows, describe_counts(num_patients, len(rows)))
            if analysis := failures.get(source):
                paint_confusion(grid[1, column], f"{source}, failures", analysis, plural(len(analysis), unit))
            else:
                hide_axes(grid[1, column])
                grid[1, column].text(0.5, 0.5, f"{source}: no failures", ha="center", color=GREY)
        draw_heading(figure, title, synthetic=synthetic)

    return draw(path, (max(4.8, 4.2 * len(sources)), 8.4), paint)
