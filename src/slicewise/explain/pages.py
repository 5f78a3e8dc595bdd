"""Figures of explanations: pages of slices with the maps of each method, deletion and insertion curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import plural
from slicewise.explain.explanation import RANDOM_SALIENCY, ExplanationRow, SliceExplanation
from slicewise.plots.sample_predictions import draw_grey, draw_outline
from slicewise.plots.style import GREY, SERIES, TRUTH, draw, draw_heading, hide_axes

PER_PAGE: Final = 5
TITLES: Final = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "xgradcam": "XGrad-CAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    RANDOM_SALIENCY: "random blobs",
}
_COLOURMAP: Final = "inferno"
_CELL: Final = 2.3
"""Inches of one image of a page."""

_SMOOTH: Final = 1 / 64
"""Standard deviation of the smoothing of saliency maps on the pages, as a share of the image side."""
_EPSILON: Final = 1e-6

Numbers = Mapping[tuple[SliceKey, str], ExplanationRow]


def draw_curves(path: Path, explanations: Sequence[SliceExplanation], *, synthetic: bool) -> None:
    """Draw the mean curves of every method, and pale those of each slice; no figure without curves."""
    traced = [explanation for explanation in explanations if explanation.curves]
    if not traced:
        return

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_curve_panel(left, traced, "deletion")
        _draw_curve_panel(right, traced, "insertion")
        left.set_ylabel("tumour probability")
        left.set_title("most salient part deleted: lower is better")
        right.set_title("most salient part inserted: higher is better")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        title = f"Faithfulness of the saliency maps: {plural(len(traced), 'slice')} called tumour"
        draw_heading(figure, title, synthetic=synthetic)

    draw(path, (9.6, 5.0), paint)


def draw_pages(
    folder: Path, explanations: Sequence[SliceExplanation], rows: Sequence[ExplanationRow], *, synthetic: bool
) -> None:
    """Draw pages of `PER_PAGE` slices: anatomy, then the saliency map of each method with its scores."""
    numbers = {(SliceKey(row.source, row.patient, row.case, row.index), row.method): row for row in rows}
    pages = [explanations[start : start + PER_PAGE] for start in range(0, len(explanations), PER_PAGE)]
    for place, page in enumerate(pages, start=1):
        title = f"Evidence for a tumour by method, page {place} of {len(pages)}"
        _draw_page(folder / f"page_{place:02d}.png", page, numbers, title, synthetic=synthetic)


def _draw_curve_panel(
    axes: Axes, traced: Sequence[SliceExplanation], kind: Literal["deletion", "insertion"]
) -> None:
    axes.set_xscale("function", functions=(np.sqrt, np.square))
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="share of the brain, most salient first")
    axes.set_xticks([0.01, 0.05, 0.1, 0.25, 0.5, 1], ["1 %", "5 %", "10 %", "25 %", "50 %", "100 %"])
    axes.grid(True)
    for place, name in enumerate(traced[0].curves):
        colour, dashes = (GREY, ":") if name == RANDOM_SALIENCY else (SERIES[place % len(SERIES)], "-")
        curves = [explanation.curves[name] for explanation in traced]
        values = np.stack([getattr(curve, kind) for curve in curves])
        shares = curves[0].shares
        axes.plot(shares, values.T, color=colour, linewidth=0.6, alpha=0.2)
        area = float(np.mean([getattr(curve, f"{kind}_auc") for curve in curves]))
        axes.plot(shares, values.mean(axis=0), dashes, color=colour, linewidth=2.2, label=TITLES[name])
        height = 0.95 - 0.07 * place if kind == "deletion" else 0.05 + 0.07 * place
        axes.text(
            0.97, height, f"{TITLES[name]}: area {area:.3f}", transform=axes.transAxes,
            color=colour, ha="right", va="center", fontsize=9,
        )  # fmt: skip


def _draw_page(
    path: Path, page: Sequence[SliceExplanation], numbers: Numbers, title: str, *, synthetic: bool
) -> None:
    methods = list(page[0].saliency_maps)

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.06)
        grid = figure.subplots(len(page), 1 + len(methods), squeeze=False)
        for line, explanation in zip(grid, page, strict=True):
            _draw_anatomy(line[0], explanation)
            for axes, name in zip(line[1:], methods, strict=True):
                _draw_saliency(axes, explanation, explanation.saliency_maps[name])
                row = numbers[explanation.row.key, name]
                parts = [] if row.share_inside is None else [f"{row.share_inside:.0%} in tumour"]
                if row.deletion_auc is not None and row.insertion_auc is not None:
                    parts.append(f"del {row.deletion_auc:.2f}, ins {row.insertion_auc:.2f}")
                axes.set_title(f"{TITLES[name]}\n{'; '.join(parts) or 'not called tumour'}", fontsize=8)
        scale = ScalarMappable(Normalize(0, 1), _COLOURMAP)
        figure.colorbar(
            scale,
            ax=grid[:, -1],
            shrink=0.6 / len(page) ** 0.5,
            label="saliency, smoothed, relative to its maximum",
        )
        line = Line2D([], [], color=TRUTH, linewidth=1.5, label="reference outline of the tumour")
        figure.legend(handles=[line], loc="outside lower left")
        draw_heading(figure, title, synthetic=synthetic)

    draw(path, (0.9 + _CELL * (1 + len(methods)), 0.9 + (_CELL + 0.4) * len(page)), paint)


def _draw_anatomy(axes: Axes, explanation: SliceExplanation) -> None:
    row = explanation.row
    hide_axes(axes)
    draw_grey(axes, explanation.sample.grey)
    if explanation.sample.reference is not None:
        draw_outline(axes, explanation.sample.reference)
    truth = "tumour" if row.label else "no tumour"
    verdict = "right" if row.right else "WRONG"
    axes.set_title(
        f"{row.case}, slice {row.index}\ntruth: {truth}; p = {row.probability:.2f}, {verdict}", fontsize=8
    )


def _draw_saliency(axes: Axes, explanation: SliceExplanation, saliency: NDArray[np.float32]) -> None:
    hide_axes(axes)
    draw_grey(axes, explanation.sample.grey)
    smooth = gaussian_filter(saliency, _SMOOTH * len(saliency))  # the maximum is often a single pixel
    intensity = np.clip(smooth / max(float(smooth.max()), _EPSILON), 0, 1)
    axes.imshow(
        intensity, cmap=_COLOURMAP, vmin=0, vmax=1, alpha=0.8 * intensity**0.5, interpolation="bilinear"
    )
    if explanation.sample.reference is not None:
        draw_outline(axes, explanation.sample.reference)
