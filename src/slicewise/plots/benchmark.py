"""The figure of a benchmark: milliseconds of a slice by model, batch size and threads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from matplotlib.axes import Axes

from slicewise.plots.style import GREY, SERIES, drawing

_BAR: Final = 0.8


class Bar(NamedTuple):
    """One measurement: milliseconds of a slice."""

    name: str
    batch_size: int
    num_threads: int
    median: float
    smallest: float
    largest: float


def draw_benchmark(
    path: Path, bars: Sequence[Bar], labels: Sequence[str], title: str, *, synthetic: bool
) -> None:
    """Draw a panel for each batch size, with a bar for each model and number of threads.

    The line spans the smallest and largest measurement. `labels` are those of the models, in order of their
    first bar, such as their names with their scores.
    """
    batch_sizes = sorted({bar.batch_size for bar in bars})
    threads = sorted({bar.num_threads for bar in bars})
    names = list(dict.fromkeys(bar.name for bar in bars))
    height = 0.5 + 0.24 * len(names) * (len(threads) + 0.6)
    with drawing(path, (8.8, 0.9 + height * len(batch_sizes)), title, synthetic=synthetic) as figure:
        panels = figure.subplots(len(batch_sizes), 1, squeeze=False, sharex=True)[:, 0]
        for axes, batch_size in zip(panels, batch_sizes, strict=True):
            own = [bar for bar in bars if bar.batch_size == batch_size]
            _draw_panel(axes, own, names, threads, gap=0.01 * max(bar.largest for bar in bars))
            axes.set_yticks(range(len(names)), labels)
            axes.set_title("one slice at a time" if batch_size == 1 else f"{batch_size} slices at a time")
        panels[-1].set_xlabel("ms a slice: median, with smallest and largest")
        handles, words = panels[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside lower right", ncols=len(threads))


def _draw_panel(
    axes: Axes, bars: Sequence[Bar], names: Sequence[str], threads: Sequence[int], gap: float
) -> None:
    height = _BAR / len(threads)
    for number, count in enumerate(threads):
        own = [bar for bar in bars if bar.num_threads == count]
        places = [names.index(bar.name) + height * (number + 0.5) - _BAR / 2 for bar in own]
        label = f"{count} thread{'s' if count > 1 else ''}"
        colour = SERIES[number % len(SERIES)]
        axes.barh(places, [bar.median for bar in own], 0.9 * height, color=colour, label=label)
        for place, bar in zip(places, own, strict=True):
            axes.plot([bar.smallest, bar.largest], [place, place], color=GREY, linewidth=1)
            axes.text(bar.largest + gap, place, f"{bar.median:.1f}", va="center", fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
