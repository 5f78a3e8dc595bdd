"""Sample predictions: slices with the reference outlined and the prediction filled."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from slicewise.domain.keys import SliceKey
from slicewise.domain.labels import modality_slot
from slicewise.domain.tables import SliceRow
from slicewise.plots.overlay import grey
from slicewise.plots.style import PREDICTION, TRUTH, draw, draw_heading, draw_message, hide_axes

GROUPS: Final = ("best", "median", "worst")
_TITLE: Final = "Sample predictions on test patients"

_SHOWN_FIRST: Final = tuple(modality_slot(name) for name in ("flair", "t1ce", "t2", "t1"))


@dataclass(frozen=True)
class Sample:
    """One slice to draw: `grey` [N, N] in 0..1, `reference` and `predicted` [N, N] booleans."""

    key: SliceKey
    grey: NDArray[np.float32]
    reference: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    dice: float


def grey_image(images: NDArray[np.floating], presence: ArrayLike) -> NDArray[np.float32]:
    """Return one slice [4, N, N] as grey [N, N] in 0..1: FLAIR where present, else T1ce, T2, T1.

    Prepared slices are 0 outside the brain; that stays black.
    """
    return grey(images[display_slot(presence)]).astype(np.float32) / np.float32(255)


def display_slot(presence: ArrayLike) -> int:
    """Return the channel to draw: FLAIR of the usual four, else T1ce, T2, T1; otherwise the first."""
    filled = np.asarray(presence, dtype=bool)
    order = _SHOWN_FIRST if len(filled) == len(_SHOWN_FIRST) else range(len(filled))
    return next((slot for slot in order if filled[slot]), 0)


def select_samples(rows: Sequence[SliceRow], number: int) -> dict[str, list[SliceKey]]:
    """Return about `number` tumour slices with the best, median and worst Dice, mostly of different patients.

    Deterministic: ties fall to the smaller key. A slice is chosen once.
    """
    ranked = sorted(
        (row for row in rows if row.reference_pixels), key=lambda row: (-(row.dice or 0), row.key)
    )
    rank = {row.key: place for place, row in enumerate(ranked)}
    middle = sorted(ranked, key=lambda row: abs(rank[row.key] - (len(ranked) - 1) / 2))
    share = -(-number // len(GROUPS))
    chosen: dict[str, list[SliceKey]] = {"best": [], "worst": [], "median": []}
    for name, order in (("best", ranked), ("worst", ranked[::-1]), ("median", middle)):
        taken = {key for keys in chosen.values() for key in keys}
        num_taken: Counter[tuple[str, str]] = Counter()
        turns: list[tuple[int, SliceKey]] = []  # first slices of all patients, then second ones, and so on
        for row in order:
            if row.key not in taken:
                patient = (row.source, row.patient)
                turns.append((num_taken[patient], row.key))
                num_taken[patient] += 1
        chosen[name] = [key for _, key in sorted(turns, key=itemgetter(0))[:share]]
    return {name: chosen[name] for name in GROUPS}


def draw_samples(path: Path, groups: dict[str, list[Sample]], *, synthetic: bool) -> Path:
    """Draw each sample as a pair: the slice alone, and with the reference and the prediction."""
    shown = {name: samples for name, samples in groups.items() if samples}
    if not shown:
        return draw_message(path, _TITLE, "no test patient has a mask with a tumour", synthetic=synthetic)
    columns = max(len(samples) for samples in shown.values())

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.05)
        grid = figure.subplots(len(shown), 2 * columns, squeeze=False)
        for axes in grid.flat:
            hide_axes(axes)
        for line, (name, samples) in zip(grid, shown.items(), strict=True):
            line[0].set_ylabel(f"{name} Dice", fontsize=11)
            for left, right, sample in zip(line[::2], line[1::2], samples, strict=False):
                draw_grey(left, sample.grey)
                draw_grey(right, sample.grey)
                fill = np.zeros((*sample.predicted.shape, 4))
                fill[sample.predicted] = (*PREDICTION, 0.45)
                right.imshow(fill, interpolation="nearest")
                draw_outline(right, sample.reference)
                left.set_title(sample.key.case, fontsize=8)
                right.set_title(f"slice {sample.key.index}   Dice {sample.dice:.2f}", fontsize=8)
        reference = Line2D([], [], color=TRUTH, linewidth=1.5, label="reference outline")
        prediction = Patch(color=PREDICTION, alpha=0.6, label="prediction")
        figure.legend(handles=[reference, prediction], loc="outside lower center", ncols=2)
        draw_heading(figure, _TITLE, synthetic=synthetic)

    return draw(path, (max(6.4, 0.4 + 3.4 * columns), 0.9 + 2.0 * len(shown)), paint)


def draw_grey(axes: Axes, picture: NDArray[np.float32]) -> None:
    """Draw a grey slice, 0 black and 1 white."""
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")


def draw_outline(axes: Axes, mask: NDArray[np.bool_]) -> None:
    """Draw the border of a mask; an empty mask draws nothing."""
    if mask.any():
        axes.contour(mask, levels=[0.5], colors=[TRUTH], linewidths=1.3)
