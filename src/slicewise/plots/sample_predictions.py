"""Figures of slices with reference and prediction: sample predictions, and failures."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Final, Generic, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from slicewise.config.schema.data import Intensity
from slicewise.domain.classes import TUMOUR, TUMOUR_OR_NOT, Classes
from slicewise.domain.keys import SliceKey
from slicewise.domain.labels import modality_slot
from slicewise.domain.tables import FailedSlice, SliceRow
from slicewise.imaging.io.image2d import to_png
from slicewise.metrics.table import METRICS
from slicewise.plots.overlay import WINDOW, grey
from slicewise.plots.style import GREY, PREDICTION, TRUTH, draw_message, drawing, hide_axes

Row = TypeVar("Row", bound=SliceRow)

GROUPS: Final = ("best", "median", "worst")
_SHOWN_FIRST: Final = tuple(modality_slot(name) for name in ("flair", "t1ce", "t2", "t1"))
_FAILURES_PER_LINE: Final = 2
_IMAGENET_WINDOW: Final = (-2.05, 2.5)
"""About black and white of each colour"""


@dataclass(frozen=True)
class SlicePicture(Generic[Row]):
    """One slice to draw; `reference` is None where there is no mask."""

    row: Row
    grey: NDArray[np.float32]
    """[N, N], 0 black, 1 white; of a picture in colours [N, N, 3]"""
    reference: NDArray[np.bool_] | None
    """[K, N, N] of K classes; of one also [N, N]"""
    predicted: NDArray[np.bool_]
    """Likewise"""
    classes: Classes = TUMOUR
    slice_classes: Classes = TUMOUR_OR_NOT

    def layers(
        self, masks: NDArray[np.bool_] | None, colour: tuple[float, ...]
    ) -> list[tuple[NDArray[np.bool_], tuple[float, ...]]]:
        """Return the mask [N, N] of each class and its colour of 0 to 1; a single class has `colour`."""
        if masks is None:
            return []
        colours = [tuple(part / 255 for part in each) for each in self.classes.colours]
        each_mask = masks.reshape(len(self.classes), *self.grey.shape[:2])
        return [*zip(each_mask, colours if self.classes.several else [colour], strict=True)]

    def files(self) -> dict[str, bytes]:
        """Return the image, the reference, if there is one, and the prediction as PNG, by name.

        Masks hold the numbers of the classes, with their colours.
        """
        files = {"image": to_png(np.rint(self.grey * 255).astype(np.uint8))}
        for name, masks in (("reference", self.reference), ("prediction", self.predicted)):
            if masks is not None:
                each_mask = masks.reshape(len(self.classes), *self.grey.shape[:2])
                files[name] = to_png(self.classes.numbers(each_mask), self.classes.colours)
        return files


def grey_image(images: NDArray[np.floating], presence: ArrayLike) -> NDArray[np.float32]:
    """Return one slice [4, N, N] as grey [N, N] in 0..1: FLAIR where present, else T1ce, T2, T1.

    Prepared slices are 0 outside the brain; that stays black.
    """
    return grey(images[display_slot(presence)]).astype(np.float32) / np.float32(255)


def colour_image(images: NDArray[np.floating], intensity: Intensity) -> NDArray[np.float32]:
    """Return one slice [3, N, N] of red, green and blue as [N, N, 3] in 0..1; its padding stays black."""
    window = {"zscore_foreground": WINDOW, "imagenet": _IMAGENET_WINDOW}.get(intensity, (0.0, 1.0))
    return np.stack([grey(image, window) for image in images], axis=-1).astype(np.float32) / np.float32(255)


def display_slot(presence: ArrayLike) -> int:
    """Return the channel to draw: FLAIR of the usual four, else T1ce, T2, T1; otherwise the first."""
    filled = np.asarray(presence, dtype=bool)
    order = _SHOWN_FIRST if len(filled) == len(_SHOWN_FIRST) else range(len(filled))
    return next((slot for slot in order if filled[slot]), 0)


def in_turns(rows: Iterable[Row]) -> list[Row]:
    """Return the first row of each patient, then second ones, and so on, otherwise in the order given."""
    num_taken: Counter[tuple[str, str]] = Counter()
    turns = []
    for row in rows:
        turns.append((num_taken[row.source, row.patient], row))
        num_taken[row.source, row.patient] += 1
    return [row for _, row in sorted(turns, key=itemgetter(0))]


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
    chosen: dict[str, list[SliceKey]] = {}
    for name, order in (("best", ranked), ("worst", ranked[::-1]), ("median", middle)):
        taken = {key for keys in chosen.values() for key in keys}
        left = in_turns(row for row in order if row.key not in taken)
        chosen[name] = [row.key for row in left[:share]]
    return {name: chosen[name] for name in GROUPS}


def draw_samples(
    path: Path, groups: Mapping[str, Sequence[SlicePicture[SliceRow]]], *, synthetic: bool
) -> None:
    """Draw each sample as a pair: the slice alone, and with the reference and the prediction."""
    title = "Sample predictions on test patients"
    shown = {name: samples for name, samples in groups.items() if samples}
    if not shown:
        words = "no test patient has a mask with a tumour"
        draw_message(path, title, words, synthetic=synthetic)
        return
    columns = max(len(samples) for samples in shown.values())
    size = (max(6.4, 0.4 + 3.4 * columns), 0.9 + 2.0 * len(shown))
    with drawing(path, size, title, synthetic=synthetic) as figure:
        figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.05)
        grid = figure.subplots(len(shown), 2 * columns, squeeze=False)
        for axes in grid.flat:
            hide_axes(axes)
        for line, (name, samples) in zip(grid, shown.items(), strict=True):
            line[0].set_ylabel(f"{name} Dice", fontsize=11)
            for left, right, sample in zip(line[::2], line[1::2], samples, strict=False):
                draw_grey(left, sample.grey)
                draw_grey(right, sample.grey)
                for mask, colour in sample.layers(sample.predicted, PREDICTION):
                    _fill(right, mask, colour, opacity=0.45)
                for mask, colour in sample.layers(sample.reference, TRUTH):
                    draw_outline(right, mask, colour)
                left.set_title(sample.row.case, fontsize=8)
                right.set_title(f"slice {sample.row.index}   Dice {sample.row.dice or 0:.2f}", fontsize=8)
        handles = _legend(next(iter(shown.values()))[0])
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _legend(picture: SlicePicture[SliceRow]) -> list[Line2D | Patch]:
    several = picture.classes.several
    reference = Line2D([], [], color=GREY if several else TRUTH, linewidth=1.5, label="reference outline")
    if not several:
        return [reference, Patch(color=PREDICTION, alpha=0.6, label="prediction")]
    layers = picture.layers(picture.predicted, PREDICTION)
    patches = [
        Patch(color=colour, alpha=0.6, label=name.replace("_", " "))
        for name, (_, colour) in zip(several, layers, strict=True)
    ]
    return [reference, *patches]


def draw_failures(
    path: Path,
    pictures: Sequence[SlicePicture[FailedSlice]],
    num_failed: int,
    metric: str = "dice",
    *,
    synthetic: bool,
) -> None:
    """Draw image, reference and prediction of each failure, with its `metric`, two failures a line."""
    lines, title = max(1, -(-len(pictures) // _FAILURES_PER_LINE)), "Failures: image, reference, prediction"
    with drawing(path, (12.4, 0.6 + 2.35 * lines), title, synthetic=synthetic) as figure:
        figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.06)
        grid = figure.subplots(lines, 3 * _FAILURES_PER_LINE, squeeze=False)
        for axes in grid.flat:
            hide_axes(axes)
        if not pictures:
            grid[0, 0].text(0, 0.5, "none is shown" if num_failed else "no slice failed")
        for panels, picture in zip(grid.reshape(-1, 3), pictures, strict=False):
            _draw_failure(panels, picture, metric)


def _draw_failure(panels: Iterable[Axes], picture: SlicePicture[FailedSlice], metric: str) -> None:
    row = picture.row
    image, reference, prediction = panels
    names = ("reference", "prediction")
    if picture.reference is None:
        classes = picture.slice_classes.labels
        called = f"called {classes[row.predicted]} ({row.probability:.2f})"
        names = (f"truly {classes[row.label]}", called)
    for axes, name in zip((image, reference, prediction), ("image", *names), strict=True):
        draw_grey(axes, picture.grey)
        axes.set_xlabel(name, fontsize=8, color=GREY)
    for mask, colour in picture.layers(picture.reference, TRUTH):
        _fill(reference, mask, colour, opacity=0.55)
    for mask, colour in picture.layers(picture.predicted, PREDICTION):
        _fill(prediction, mask, colour, opacity=0.55)
    score = "" if row.dice is None else f", {METRICS[metric].label} {row.scores[metric] or 0:.2f}"
    image.set_title(f"{row.case}, slice {row.index}: {row.kind}{score}", fontsize=9)


def draw_grey(axes: Axes, picture: NDArray[np.float32]) -> None:
    """Draw a grey slice, 0 black and 1 white."""
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")


def draw_outline(axes: Axes, mask: NDArray[np.bool_] | None, colour: tuple[float, ...] = TRUTH) -> None:
    """Draw the border of a mask, if there is one."""
    if mask is not None and mask.any():
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.3)


def _fill(axes: Axes, mask: NDArray[np.bool_], colour: tuple[float, ...], opacity: float) -> None:
    layer = np.zeros((*mask.shape, 4))
    layer[mask] = (*colour, opacity)
    axes.imshow(layer, interpolation="nearest")
