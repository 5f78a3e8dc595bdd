"""The modalities of each subset as a matrix of dots, and the scores with these modalities."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicewise.domain.labels import MODALITIES
from slicewise.domain.tables import SubsetRow, plural
from slicewise.plots.style import BLUE, GREY, ORANGE, PALE, draw, draw_heading

_NAMES: Final = {"t1": "T1", "t1ce": "T1ce", "t2": "T2", "flair": "FLAIR"}

Interval = tuple[float | None, float | None, float | None]


def draw_subsets(path: Path, rows: Sequence[SubsetRow], *, synthetic: bool) -> None:
    """Draw the subsets of one source, best Dice on top: dots, Dice per patient and slice ROC-AUC."""
    ranked = sorted(rows, key=lambda row: (row.dice is not None, row.dice or 0.0, row.modalities))

    def paint(figure: Figure) -> None:
        dots, dice, auc = figure.subplots(1, 3, sharey=True, width_ratios=(1.1, 2.2, 2.2))
        _dots(dots, ranked)
        _points(dice, ranked, lambda row: (row.dice, row.dice_low, row.dice_high), BLUE)
        _points(auc, ranked, lambda row: (row.roc_auc, row.roc_auc_low, row.roc_auc_high), ORANGE)
        dice.set_xlabel("Dice per patient, with interval")
        auc.set_xlabel("slice ROC-AUC, with interval")
        auc.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
        fewest, most = min(row.num_patients for row in rows), max(row.num_patients for row in rows)
        number = plural(most, "patient") if fewest == most else f"{fewest} to {plural(most, 'patient')}"
        draw_heading(figure, f"{rows[0].source}: with these modalities alone, {number}", synthetic=synthetic)

    draw(path, (8.6, 1.6 + 0.3 * len(rows)), paint)


def _dots(axes: Axes, rows: Sequence[SubsetRow]) -> None:
    for height, row in enumerate(rows):
        given = [slot for slot, is_given in enumerate(row.given) if is_given]
        axes.scatter(range(len(MODALITIES)), [height] * len(MODALITIES), s=55, color=PALE, zorder=2)
        axes.plot(given, [height] * len(given), "-", color="black", linewidth=1.5, zorder=1)
        axes.scatter(given, [height] * len(given), s=55, color="black", zorder=3)
    axes.set_xticks(range(len(MODALITIES)), [_NAMES[name] for name in MODALITIES], fontsize=9)
    axes.set_yticks([])
    axes.set(xlim=(-0.6, len(MODALITIES) - 0.4), ylim=(-0.6, len(rows) - 0.4))
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _points(
    axes: Axes, rows: Sequence[SubsetRow], read: Callable[[SubsetRow], Interval], colour: str
) -> None:
    for height, row in enumerate(rows):
        value, low, high = read(row)
        if value is None:
            axes.text(0.5, height, "undefined", ha="center", va="center", color=GREY, fontsize=8)
            continue
        if low is not None and high is not None:
            axes.plot([low, high], [height, height], color=colour, linewidth=2, alpha=0.5)
        axes.plot(value, height, "o", color=colour, markersize=6)
        axes.annotate(
            f"{value:.3f}", (1.02, height), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
    axes.set_xlim(0, 1)
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
