"""Figures of a tuning: the scores of the trials one after the other, and what they depend on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from matplotlib.ticker import MaxNLocator

from slicewise.plots.style import BLUE, GREY, ORANGE, PALE, drawing


class Point(NamedTuple):
    """A trial that has a score."""

    number: int
    score: float
    is_pruned: bool


_HEIGHT: Final = 0.36  # inches of a bar


def draw_history(
    path: Path, points: Sequence[Point], default: float, score_label: str, *, synthetic: bool
) -> None:
    """Draw the score of each trial, the best so far, and that of the default recipe."""
    title = "Trials on the validation patients"
    with drawing(path, (7.0, 3.8), title, synthetic=synthetic) as figure:
        axes = figure.subplots()
        axes.axhline(default, color=GREY, linestyle=":", label=f"default recipe, {default:.4f}")
        for is_pruned, colour, label in ((False, BLUE, "trial"), (True, PALE, "pruned, at its last epoch")):
            chosen = [point for point in points if point.is_pruned is is_pruned]
            if chosen:
                numbers, scores = [each.number for each in chosen], [each.score for each in chosen]
                axes.scatter(numbers, scores, color=colour, s=26, zorder=3, label=label)
        best, steps = default, list[tuple[int, float]]()
        for point in points:
            best = best if point.is_pruned else max(best, point.score)
            steps.append((point.number, best))
        if steps:
            axes.step(*zip(*steps, strict=True), where="post", color=ORANGE, label=f"best so far, {best:.4f}")
        axes.set(xlabel="trial", ylabel=score_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(visible=True)
        axes.legend(loc="lower right")


def draw_importance(path: Path, shares: Mapping[str, float], *, synthetic: bool) -> None:
    """Draw the share of each parameter in the variance of the scores, a bar each, largest first."""
    names = sorted(shares, key=lambda name: shares[name])
    size = (7.0, 1.5 + _HEIGHT * len(names))
    title = "What the score of the completed trials depended on (fANOVA)"
    with drawing(path, size, title, synthetic=synthetic) as figure:
        axes = figure.subplots()
        axes.barh(names, [shares[name] for name in names], color=BLUE, height=0.65)
        for place, name in enumerate(names):
            axes.text(shares[name] + 0.01, place, f"{shares[name]:.2f}", va="center", fontsize=9)
        axes.set(xlim=(0, 1.1), xlabel="share of the variance of the scores")
