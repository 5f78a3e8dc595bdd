"""Figure of the Dice of every patient by fold of a cross-validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from slicewise.plots.style import BLUE, GREY, draw, draw_heading

_SPREAD: Final = 0.28


def draw_folds(path: Path, dice: Mapping[str, Sequence[Sequence[float]]], *, synthetic: bool) -> Path:
    """Draw a panel per source with a column per fold: each patient's Dice, the fold's mean and that of all.

    `dice`: by source, the Dice of the patients of each fold.
    """
    num_folds = max(len(columns) for columns in dice.values())

    def paint(figure: Figure) -> None:
        draw_heading(figure, "Dice per patient, by fold", synthetic=synthetic)
        panels = figure.subplots(1, len(dice), squeeze=False)[0]
        for axes, (source, columns) in zip(panels, dice.items(), strict=True):
            for number, values in enumerate(columns, 1):
                ordered = np.sort(values)
                places = (
                    number + np.linspace(-_SPREAD, _SPREAD, len(ordered)) if len(ordered) > 1 else [number]
                )
                axes.plot(places, ordered, "o", color=BLUE, markersize=4, alpha=0.7)
                if len(ordered):
                    axes.hlines(ordered.mean(), number - _SPREAD, number + _SPREAD, color=GREY, linewidth=2)
            mean = np.concatenate([np.asarray(values) for values in columns]).mean()
            axes.axhline(mean, color=GREY, linewidth=1, linestyle=":")
            axes.set(title=f"{source}: mean {mean:.3f}", xlabel="fold", ylabel="Dice", ylim=(-0.03, 1.03))
            axes.set_xticks(range(1, len(columns) + 1))
            axes.grid(axis="y")

    return draw(path, (max(5.0, 1.1 * num_folds) * len(dice), 4.0), paint)
