"""The look of all figures; drawn without pyplot, so without windows and global state."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicewise.core.files import atomic_write
from slicewise.plots import overlay

# Okabe and Ito's palette, distinguishable with any colour vision.
BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
GREEN: Final = "#009E73"
GREY: Final = "#6E6E6E"
PALE: Final = "#D9D9D9"
TRUTH: Final = tuple(part / 255 for part in overlay.TRUTH)
"""Outline of the reference on grey anatomy, as in the demo."""
PREDICTION: Final = tuple(part / 255 for part in overlay.PREDICTION)
"""Fill of the prediction on grey anatomy, as in the demo."""
SERIES: Final = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9")

_SETTINGS: Final = {
    "figure.dpi": 120,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.titlesize": 12,
    "svg.hashsalt": "slicewise",
}


def draw(path: Path, size: tuple[float, float], paint: Callable[[Figure], None]) -> Path:
    """Let `paint` fill a figure of `size` inches and write it atomically as PNG.

    The same figure gives the same bytes: the file holds no date and no version.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        with atomic_write(path) as stream:
            figure.savefig(stream, format="png", metadata={"Software": None})
    return path


def draw_message(path: Path, title: str, words: str, *, synthetic: bool) -> Path:
    """Draw a figure that states why there is nothing to draw."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        hide_axes(axes)
        axes.text(0.5, 0.5, words, ha="center", va="center", color=GREY)
        draw_heading(figure, title, synthetic=synthetic)

    return draw(path, (5.0, 2.4), paint)


def draw_heading(figure: Figure, text: str, *, synthetic: bool = False) -> None:
    """Set the title over the figure; `synthetic` marks generated patients."""
    figure.suptitle(text + (" (synthetic data)" if synthetic else ""), x=0.01, ha="left")


def hide_axes(axes: Axes) -> None:
    """Remove ticks and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
