"""Recipes side by side: a panel per source and score, a line per recipe, a dot per seed."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicewise.domain.scores import AUC, DICE, NOT_TRAINED, SCORE_NAMES
from slicewise.domain.tables import RecipeRow
from slicewise.plots.style import BLUE, GREY, ORANGE, draw, draw_heading

_COLOURS = {DICE: BLUE, AUC: ORANGE}
_SPREAD = 0.7
_INCHES_PER_SEED = 0.16
"""Height of the number beside a dot."""


def draw_recipes(path: Path, rows: Sequence[RecipeRow], *, synthetic: bool) -> Path:
    """Draw Dice and AUC of every recipe with intervals over patients; untrained tasks are named."""
    recipes = list(dict.fromkeys(row.recipe for row in rows))
    panels = sorted({(row.source, row.score) for row in rows if row.score in _COLOURS})
    num_seeds = len({row.seed for row in rows})
    height = max(0.45, num_seeds * _INCHES_PER_SEED / _SPREAD)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, (source, score) in zip(grid, panels, strict=True):
            panel_rows = [row for row in rows if (row.source, row.score) == (source, score)]
            _panel(axes, panel_rows, recipes, f"{source}: {SCORE_NAMES[score]}", _COLOURS[score])
        against = f", against {recipes[0]}" if len(recipes) > 1 else ""
        draw_heading(figure, f"Recipes on the same test patients{against}", synthetic=synthetic)

    return draw(path, (8.5, 0.8 + len(panels) * (0.9 + height * len(recipes))), paint)


def _panel(axes: Axes, rows: Sequence[RecipeRow], recipes: Sequence[str], title: str, colour: str) -> None:
    for place, recipe in enumerate(recipes):
        recipe_rows = [row for row in rows if row.recipe == recipe]
        for number, row in enumerate(recipe_rows):
            _mark(axes, place + _SPREAD * ((number + 0.5) / len(recipe_rows) - 0.5), row, colour)
    axes.set_yticks(range(len(recipes)), recipes)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(recipes) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    axes.set_title(title)


def _mark(axes: Axes, height: float, row: RecipeRow, colour: str) -> None:
    if row.value is None:
        words = NOT_TRAINED if row.note == NOT_TRAINED else "undefined"
        axes.text(0.0, height, words, va="center", color=GREY, fontstyle="italic", fontsize=9)
        return
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [height, height], color=colour, linewidth=3, alpha=0.35)
    axes.plot(row.value, height, "o", color=colour, markersize=5)
    gain = "" if row.difference is None else f" ({row.difference:+.3f})"
    place = ("axes fraction", "data")
    axes.annotate(f"{row.value:.3f}{gain}", (1.01, height), xycoords=place, va="center", fontsize=8)
