"""Losses and metrics over the epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slicewise.core.files import atomic_write
from slicewise.domain.wording import reword

_LOSSES: Final = {"train_loss": "training", "val_loss": "validation"}


def draw_curves(
    path: Path, title: str, rows: Sequence[Mapping[str, float]], best_epoch: int, metrics: Mapping[str, str]
) -> None:
    """Draw the epochs of a stage to a PNG file, the best one marked; 0 stands for the initial weights.

    `metrics` names the columns of the validation metrics and their labels.
    """
    figure = Figure(figsize=(9, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    _draw(left, rows, _LOSSES, "loss")
    _draw(right, rows, metrics, "validation metric")
    right.set_ylim(0, 1.02)
    for axes in (left, right):
        name = "best epoch" if best_epoch else "initial weights"
        axes.axvline(best_epoch, color="0.7", linestyle=":", zorder=0, label=name)
        axes.set_xlim(min(0.5, best_epoch - 0.5, rows[0]["epoch"] - 0.5), rows[-1]["epoch"] + 0.5)
        axes.legend(
            loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, frameon=False, fontsize="small"
        )  # below: no place inside is free of points in every stage
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png", dpi=120)


def _draw(axes: Any, rows: Sequence[Mapping[str, float]], names: Mapping[str, str], label: str) -> None:
    for key, name in names.items():
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=reword(name))
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
