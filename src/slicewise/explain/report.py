"""Tables and figures of explanations: localization, faithfulness and the randomization test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from slicewise.core.files import write_json
from slicewise.domain.classes import TUMOUR_OR_NOT, Classes
from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import plural, write_rows
from slicewise.explain.explanation import (
    INSENSITIVE,
    RANDOM_SALIENCY,
    ExplanationRow,
    SaliencyRow,
    SliceExplanation,
    explanation_rows,
    localization_scores,
    summarise_methods,
    summarise_saliency,
)
from slicewise.explain.faithfulness import BASELINE, STEPS
from slicewise.plots.sample_predictions import draw_grey, draw_outline
from slicewise.plots.style import GREY, SERIES, TRUTH, drawing, hide_axes

SALIENCY_NOTE: Final = (
    "share_inside is the share of the saliency that lies in the tumour; share_by_area is that of uniform "
    "saliency (tumour area / brain area). hit: the maximum lies in the tumour (pointing game, Zhang 2018). "
    "Saliency is taken inside the brain; slices without tumour or mask have no such numbers. Each map is "
    "relative to its own maximum: where the probability is low, it shows little evidence."
)
METHODS_NOTE: Final = (
    "deletion_auc, insertion_auc: area under the tumour probability (not calibrated) as the most salient "
    f"part of the brain is set to {BASELINE:g}, the mean of the brain, or restored on an empty picture, in "
    f"{STEPS} steps that grow with the square (after Petsiuk 2018); slices called tumour only. Low deletion "
    "and high insertion are good; 'random' is a map of random blobs. pointing_game and share_inside: of "
    "tumours that were found. likeness: Spearman's correlation with the map of a copy of the model whose "
    "head, also decoder, also encoder is randomized (Adebayo 2018), mean of its absolute value over the "
    "pictures with a map: an inverted map counts as kept; an empty map of the copy counts as 0. A method is "
    f"called insensitive from {INSENSITIVE:g} at the last of these: it shows the picture, not the learning."
)
PER_PAGE: Final = 5
_TITLES: Final = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "xgradcam": "XGrad-CAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    RANDOM_SALIENCY: "random blobs",
}
_COLOURMAP: Final = "inferno"
_CELL: Final = 2.3  # inches of one image of a page
_SMOOTH: Final = 1 / 64
"""Standard deviation of the smoothing of saliency maps on the pages, as a share of the image side."""
_EPSILON: Final = 1e-6
_EQUAL: Final = 0.02
"""Largest difference of two maps that look the same"""


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One point of a deletion and an insertion curve, for `curves.csv`."""

    source: str
    patient: str
    case: str
    index: int
    method: str
    share: float
    deletion: float
    insertion: float


def write_saliency(
    folder: Path,
    explanations: Sequence[SliceExplanation],
    classes: Classes = TUMOUR_OR_NOT,
    *,
    synthetic: bool,
) -> dict[str, Any]:
    """Write tables and figures of Grad-CAM and of all methods, and summary.json; return the summary."""
    summary = {
        **write_gradcam(folder, explanations, classes, synthetic=synthetic),
        "methods": write_methods(folder, explanations, classes, synthetic=synthetic),
    }
    write_json(folder / "summary.json", {"synthetic": synthetic, **summary})
    return summary


def write_gradcam(
    folder: Path,
    explanations: Sequence[SliceExplanation],
    classes: Classes = TUMOUR_OR_NOT,
    *,
    synthetic: bool,
) -> dict[str, Any]:
    """Write one figure per slice and `gradcam.csv` into `folder`; return the summary of the rows."""
    rows = []
    for place, explanation in enumerate(explanations, start=1):
        row, saliency = explanation.row, explanation.saliency_maps["gradcam"]
        outcome = "right" if row.right else "wrong"
        label = classes.with_absence[row.label] if classes.several or row.label else "healthy"
        saliency_row = SaliencyRow(
            f"{place:02d}_{row.source}_{row.patient}_{row.index:03d}_{label}_{outcome}.png",
            *(row.source, row.patient, row.case, row.index, row.label, row.probability, row.right),
            *localization_scores(saliency, explanation.inside, explanation.reference),
        )
        _draw_gradcam(folder, saliency_row, explanation, classes, synthetic=synthetic)
        rows.append(saliency_row)
    write_rows(folder / "gradcam.csv", rows, SaliencyRow)
    return {**summarise_saliency(rows), "note": SALIENCY_NOTE}


def write_methods(
    folder: Path,
    explanations: Sequence[SliceExplanation],
    classes: Classes = TUMOUR_OR_NOT,
    *,
    synthetic: bool,
) -> dict[str, Any]:
    """Write explanations.csv, curves.csv, explanations.json and the figures; return the summary by method."""
    rows = [row for explanation in explanations for row in explanation_rows(explanation)]
    write_rows(folder / "explanations.csv", rows, ExplanationRow)
    points = [
        CurveRow(row.source, row.patient, row.case, row.index, name, *map(float, point))
        for row, curves_of in ((explanation.row, explanation.curves) for explanation in explanations)
        for name, curves in curves_of.items()
        for point in zip(curves.shares, curves.deletion, curves.insertion, strict=True)
    ]
    write_rows(folder / "curves.csv", points, CurveRow)
    methods = summarise_methods(rows)
    content = {"synthetic": synthetic, "methods": methods, "note": METHODS_NOTE}
    write_json(folder / "explanations.json", content)
    _draw_curves(folder / "deletion_insertion.png", explanations, classes, synthetic=synthetic)
    scores = {(SliceKey(row.source, row.patient, row.case, row.index), row.method): row for row in rows}
    pages = [explanations[start : start + PER_PAGE] for start in range(0, len(explanations), PER_PAGE)]
    for number, page in enumerate(pages, start=1):
        title = f"Evidence for {_evidence(classes)} by method, page {number} of {len(pages)}"
        path = folder / f"page_{number:02d}.png"
        _draw_page(path, page, scores, title, classes, synthetic=synthetic)
    return methods


def _evidence(classes: Classes) -> str:
    return "the predicted class" if classes.several else "a tumour"


def _draw_gradcam(
    folder: Path, row: SaliencyRow, explanation: SliceExplanation, classes: Classes, *, synthetic: bool
) -> None:
    """Draw a slice alone and with its saliency map, both with the outline of the reference."""
    label, outcome = classes.labels[row.label], ("right" if row.right else "wrong")
    what = classes.labels[explanation.row.predicted] if classes.several else "tumour"
    caption = f"{row.source}  {row.case}  slice {row.index}" + ("  (synthetic data)" if synthetic else "")
    caption += f"\n{what} probability {row.probability:.2f}, truth: {label}, {outcome}"
    if row.share_inside is not None and row.share_by_area is not None:
        caption += f"\nsaliency in tumour {row.share_inside:.0%}, by area alone {row.share_by_area:.0%}"
    with drawing(folder / row.file, (6.4, 4.0)) as figure:
        figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05)
        left, right = figure.subplots(1, 2)
        _draw_slice(left, explanation)
        _draw_evidence(right, explanation, "gradcam", classes)
        outlined = "slice with reference outline" if _has_outline(explanation) else "slice"
        left.set_title(outlined, fontsize=9)
        evidence = what if classes.several else "a tumour"
        right.set_title(f"evidence for {evidence}, relative", fontsize=9)
        figure.suptitle(caption, x=0.02, ha="left", fontsize=10)


def _draw_curves(
    path: Path, explanations: Sequence[SliceExplanation], classes: Classes, *, synthetic: bool
) -> None:
    """Draw the mean curves of every method, and pale those of each slice; no figure without curves."""
    traced = [explanation for explanation in explanations if explanation.curves]
    if not traced:
        return
    called = "" if classes.several else " called tumour"
    title = f"Faithfulness of the saliency maps: {plural(len(traced), 'slice')}{called}"
    with drawing(path, (9.6, 5.0), title, synthetic=synthetic) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_curve_panel(left, traced, "deletion")
        _draw_curve_panel(right, traced, "insertion")
        what = "probability of the predicted class" if classes.several else "tumour probability"
        left.set_ylabel(what)
        left.set_title("most salient part deleted: lower is better")
        right.set_title("most salient part inserted: higher is better")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)


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
        axes.plot(shares, values.mean(axis=0), dashes, color=colour, linewidth=2.2, label=_TITLES[name])
        height = 0.95 - 0.07 * place if kind == "deletion" else 0.05 + 0.07 * place
        axes.text(
            0.97, height, f"{_TITLES[name]}: area {area:.3f}", transform=axes.transAxes,
            color=colour, ha="right", va="center", fontsize=9,
        )  # fmt: skip


def _draw_page(
    path: Path,
    page: Sequence[SliceExplanation],
    scores: Mapping[tuple[SliceKey, str], ExplanationRow],
    title: str,
    classes: Classes,
    *,
    synthetic: bool,
) -> None:
    """Draw a line per slice: anatomy, then the saliency map of each method with its scores."""
    methods = _distinct_methods(page)
    columns = 1 + len(methods)
    size = (0.9 + _CELL * columns, 0.9 + (_CELL + 0.4) * len(page))
    with drawing(path, size, title, synthetic=synthetic) as figure:
        figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.06)
        grid = figure.subplots(len(page), columns, squeeze=False)
        for line, explanation in zip(grid, page, strict=True):
            row = explanation.row
            _draw_slice(line[0], explanation)
            truth, verdict = classes.labels[row.label], ("right" if row.right else "WRONG")
            called = f"\ncalled {classes.labels[row.predicted]}" if classes.several else ""
            facts = f"truth: {truth}{called}; p = {row.probability:.2f}, {verdict}"
            line[0].set_title(f"{row.case}, slice {row.index}\n{facts}", fontsize=8)
            for axes, (name, equal) in zip(line[1:], methods.items(), strict=True):
                _draw_evidence(axes, explanation, name, classes)
                lines = [" = ".join(_TITLES[each] for each in (name, *equal)), ""]
                if _is_explained(explanation, classes):
                    lines = _scored_title(lines[0], scores[row.key, name])
                axes.set_title("\n".join(lines), fontsize=8)
        if any(_is_explained(explanation, classes) for explanation in page):
            scale = ScalarMappable(Normalize(0, 1), _COLOURMAP)
            label = "saliency, smoothed, relative to its maximum"
            figure.colorbar(scale, ax=grid[:, -1], shrink=0.6 / len(page) ** 0.5, label=label)
        if any(map(_has_outline, page)):
            outline = Line2D([], [], color=TRUTH, linewidth=1.5, label="reference outline of the tumour")
            figure.legend(handles=[outline], loc="outside lower left")


def _distinct_methods(page: Sequence[SliceExplanation]) -> dict[str, list[str]]:
    """Return the methods whose maps differ on some slice, each with those that are equal to it on all."""
    distinct: dict[str, list[str]] = {}
    for name in page[0].saliency_maps:
        for first, equal in distinct.items():
            maps = ([_intensity(each.saliency_maps[key]) for key in (first, name)] for each in page)
            if all(np.allclose(one, other, rtol=0, atol=_EQUAL) for one, other in maps):
                equal.append(name)
                break
        else:
            distinct[name] = []
    return distinct


def _scored_title(methods: str, score: ExplanationRow) -> list[str]:
    """Return two lines, each no wider than a picture."""
    inside = "" if score.share_inside is None else f", {score.share_inside:.0%} in tumour"
    if score.deletion_auc is None or score.insertion_auc is None:
        return [f"{methods}{inside}", ""]
    return [f"{methods}{inside}", f"deletion {score.deletion_auc:.2f}, insertion {score.insertion_auc:.2f}"]


def _has_outline(explanation: SliceExplanation) -> bool:
    return explanation.reference is not None and bool(explanation.reference.any())


def _is_explained(explanation: SliceExplanation, classes: Classes) -> bool:
    """Whether there is a prediction that a map gives evidence for: none for “no tumour”."""
    return classes.several != () or explanation.row.predicted > 0


def _intensity(saliency: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a smoothed map relative to its maximum, which is often one pixel."""
    smooth = gaussian_filter(saliency, _SMOOTH * len(saliency))
    return np.asarray(np.clip(smooth / max(float(smooth.max()), _EPSILON), 0, 1), np.float32)


def _draw_evidence(axes: Axes, explanation: SliceExplanation, method: str, classes: Classes) -> None:
    """Draw a slice with the saliency map of a method, or why there is none."""
    if not _is_explained(explanation, classes):
        _draw_slice(axes, explanation)
        axes.text(
            0.5, 0.04, "no tumour predicted: no map", transform=axes.transAxes, color="white",
            ha="center", va="bottom", fontsize=8, bbox={"facecolor": "black", "alpha": 0.6, "lw": 0},
        )  # fmt: skip
        return
    intensity = _intensity(explanation.saliency_maps[method])
    _draw_slice(axes, explanation, intensity, 0.8 * intensity**0.5)


def _draw_slice(
    axes: Axes,
    explanation: SliceExplanation,
    saliency: NDArray[np.float32] | None = None,
    opacity: NDArray[np.float32] | None = None,
) -> None:
    """Draw the anatomy, saliency in 0..1 over it, and the outline of the reference."""
    hide_axes(axes)
    draw_grey(axes, explanation.grey)
    if saliency is not None:
        axes.imshow(saliency, cmap=_COLOURMAP, vmin=0, vmax=1, alpha=opacity, interpolation="bilinear")
    draw_outline(axes, explanation.reference)
