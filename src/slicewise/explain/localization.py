"""Does the classification look at the tumour? Pictures of its heat, and two numbers for each."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import SliceRow, write_rows
from slicewise.plots.sample_predictions import draw_grey, draw_outline
from slicewise.plots.style import draw, hide_axes

NOTE = (
    "share_inside is the part of the heat that lies in the tumour; share_by_area is what evenly spread heat "
    "would have there (tumour area / brain area). hit: the hottest pixel lies in the tumour (pointing game, "
    "Zhang 2018). Heat is taken inside the brain; slices without tumour or mask have no such numbers. "
    "Each slice's heat is relative to its own maximum: where the probability is low, so is what it shows."
)


@dataclass(frozen=True)
class SaliencySlice:
    """One slice with its heat. All pictures [N, N]; `reference` is None where there is no mask."""

    row: SliceRow
    grey: NDArray[np.float32]
    saliency: NDArray[np.float32]
    inside: NDArray[np.bool_]
    reference: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class SaliencyRow:
    """What `gradcam.csv` says of one slice."""

    file: str
    source: str
    patient: str
    case: str
    index: int
    label: int
    probability: float
    right: bool
    share_inside: float | None
    share_by_area: float | None
    hit: bool | None


def select_saliency_slices(rows: Sequence[SliceRow], number: int) -> list[SliceKey]:
    """Choose up to `number` slices in turn over source, truth and right or wrong.

    Each time the patient shown least often comes first, and the surest answer of that patient. Deterministic;
    fewer come back where fewer exist.
    """
    kinds: dict[tuple[int, bool, str], list[SliceRow]] = {}
    for row in sorted(rows, key=lambda row: (-abs(row.probability - 0.5), row.key)):
        kinds.setdefault((-row.label, not row.right, row.source), []).append(row)
    turns = itertools.cycle([queue for _, queue in sorted(kinds.items())])
    shown: Counter[tuple[str, str]] = Counter()
    chosen: list[SliceKey] = []
    while len(chosen) < min(number, len(rows)):
        if queue := next(turns):
            row = min(queue, key=lambda row: shown[row.source, row.patient])
            queue.remove(row)
            shown[row.source, row.patient] += 1
            chosen.append(row.key)
    return chosen


def localization_scores(
    saliency: NDArray[np.float32], inside: NDArray[np.bool_], reference: NDArray[np.bool_]
) -> tuple[float | None, float, bool]:
    """Return share of heat in the reference, share expected by area and pointing-game hit, in the brain.

    The first is None where there is no heat; the hit is then False.
    """
    brain = inside | reference
    masked = np.where(brain, saliency, 0).astype(np.float64)
    total = float(masked.sum())
    by_area = float(np.count_nonzero(reference) / np.count_nonzero(brain))
    if total == 0:
        return None, by_area, False
    return float(masked[reference].sum()) / total, by_area, bool(reference.flat[masked.argmax()])


def write_gradcam(folder: Path, slices: Iterable[SaliencySlice], *, synthetic: bool) -> list[SaliencyRow]:
    """Write one picture per slice and `gradcam.csv` into `folder`; return the rows."""
    rows = []
    for place, shown in enumerate(slices, start=1):
        row = _saliency_row(f"{place:02d}_{_stem(shown.row)}.png", shown)
        _draw_tile(folder / row.file, shown, row, synthetic)
        rows.append(row)
    write_rows(folder / "gradcam.csv", rows, SaliencyRow)
    return rows


def summarise_saliency(rows: Sequence[SaliencyRow]) -> dict[str, Any]:
    """Return counts and mean numbers over tumour slices by source, found and missed tumours apart."""
    groups: dict[str, dict[str, Any]] = {}
    for source in sorted({row.source for row in rows}):
        own = [row for row in rows if row.source == source]
        groups[source] = {
            "num_pictures": len(own),
            "num_right": sum(row.right for row in own),
            "tumour_found": _means([row for row in own if row.label and row.right]),
            "tumour_missed": _means([row for row in own if row.label and not row.right]),
        }
    return {"num_pictures": len(rows), "sources": groups, "note": NOTE}


def _means(rows: Sequence[SaliencyRow]) -> dict[str, Any]:
    shares = [row.share_inside for row in rows if row.share_inside is not None]
    areas = [row.share_by_area for row in rows if row.share_by_area is not None]
    hits = [float(row.hit) for row in rows if row.hit is not None]
    return {
        "num_slices": len(areas),
        "share_inside": _mean(shares),
        "share_by_area": _mean(areas),
        "pointing_game": _mean(hits),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _saliency_row(file: str, shown: SaliencySlice) -> SaliencyRow:
    row, reference = shown.row, shown.reference
    known = reference is not None and bool(reference.any())
    numbers = (
        localization_scores(shown.saliency, shown.inside, reference)
        if known and reference is not None
        else None
    )
    share, area, hit = numbers or (None, None, None)
    return SaliencyRow(
        file, row.source, row.patient, row.case, row.index, row.label, row.probability, row.right,
        share, area, hit,
    )  # fmt: skip


def _stem(row: SliceRow) -> str:
    truth, verdict = ("tumour" if row.label else "healthy"), ("right" if row.right else "wrong")
    return f"{row.source}_{row.patient}_{row.index:03d}_{truth}_{verdict}"


def _draw_tile(path: Path, shown: SaliencySlice, row: SaliencyRow, synthetic: bool) -> None:
    def paint(figure: Figure) -> None:
        figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05)
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            hide_axes(axes)
            draw_grey(axes, shown.grey)
        intensity = np.clip(shown.saliency, 0, 1)
        right.imshow(
            intensity, cmap="inferno", vmin=0, vmax=1, alpha=0.75 * intensity, interpolation="bilinear"
        )
        if shown.reference is not None:
            draw_outline(left, shown.reference)
            draw_outline(right, shown.reference)
        left.set_title("slice with reference outline" if row.hit is not None else "slice", fontsize=9)
        right.set_title("evidence for a tumour, relative", fontsize=9)
        figure.suptitle(_caption(row, synthetic), x=0.02, ha="left", fontsize=10)

    draw(path, (6.4, 4.0), paint)


def _caption(row: SaliencyRow, synthetic: bool) -> str:
    truth = "tumour" if row.label else "no tumour"
    name = f"{row.source}  {row.case}  slice {row.index}" + ("  (synthetic data)" if synthetic else "")
    outcome = f"tumour probability {row.probability:.2f}, truth: {truth}, {'right' if row.right else 'wrong'}"
    if row.share_inside is None or row.share_by_area is None:
        return f"{name}\n{outcome}"
    return f"{name}\n{outcome}\nheat in tumour {row.share_inside:.0%}, by area alone {row.share_by_area:.0%}"
