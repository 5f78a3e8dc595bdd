"""The look of all figures; drawn without pyplot, so without windows and global state."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from slicewise.core.files import atomic_write
from slicewise.domain.wording import reword
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


@contextmanager
def drawing(
    path: Path, size: tuple[float, float], title: str = "", *, synthetic: bool = False
) -> Iterator[Figure]:
    """Give a figure of `size` inches to draw in; afterwards add the title and write it atomically as PNG.

    The same figure gives the same bytes: the file holds no date and no version. `synthetic` marks generated
    patients in the title.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        if title:
            figure.suptitle(title + (" (synthetic data)" if synthetic else ""), x=0.01, ha="left")
        for text in figure.findobj(Text):
            if isinstance(text, Text):  # for the type alone
                text.set_text(reword(text.get_text()))
        with atomic_write(path) as stream:
            figure.savefig(stream, format="png", metadata={"Software": None})


def draw_message(path: Path, title: str, words: str, *, synthetic: bool) -> None:
    """Draw a figure that states why there is nothing to draw."""
    with drawing(path, (5.0, 2.4), title, synthetic=synthetic) as figure:
        axes = figure.subplots()
        hide_axes(axes)
        axes.text(0.5, 0.5, words, ha="center", va="center", color=GREY)


def hide_axes(axes: Axes) -> None:
    """Remove ticks and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
