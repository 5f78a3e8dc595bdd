"""Figure of one slice with its saliency map."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from slicewise.plots.sample_predictions import draw_grey, draw_outline
from slicewise.plots.style import draw, hide_axes


def draw_saliency(
    path: Path,
    grey: NDArray[np.float32],
    saliency: NDArray[np.float32],
    reference: NDArray[np.bool_] | None,
    *,
    has_tumour: bool,
    caption: str,
) -> Path:
    """Draw a slice [N, N] alone and with its saliency map, both with the outline of the reference."""

    def paint(figure: Figure) -> None:
        figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05)
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            hide_axes(axes)
            draw_grey(axes, grey)
        intensity = np.clip(saliency, 0, 1)
        right.imshow(
            intensity, cmap="inferno", vmin=0, vmax=1, alpha=0.75 * intensity, interpolation="bilinear"
        )
        if reference is not None:
            draw_outline(left, reference)
            draw_outline(right, reference)
        left.set_title("slice with reference outline" if has_tumour else "slice", fontsize=9)
        right.set_title("evidence for a tumour, relative", fontsize=9)
        figure.suptitle(caption, x=0.02, ha="left", fontsize=10)

    return draw(path, (6.4, 4.0), paint)
