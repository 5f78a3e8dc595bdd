"""Localization of the tumour by saliency maps: selection of slices, scores, table and figures."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import SliceRow, by_source, write_rows
from slicewise.explain.explanation import ExplanationRow, SaliencyRow, SaliencySlice
from slicewise.plots.saliency import draw_saliency

NOTE = (
    "share_inside is the share of the saliency that lies in the tumour; share_by_area is that of uniform "
    "saliency (tumour area / brain area). hit: the maximum lies in the tumour (pointing game, Zhang 2018). "
    "Saliency is taken inside the brain; slices without tumour or mask have no such numbers. Each map is "
    "relative to its own maximum: where the probability is low, it shows little evidence."
)


def select_saliency_slices(rows: Sequence[SliceRow], number: int) -> list[SliceKey]:
    """Return up to `number` slices, in turn over source, label and correct or wrong prediction.

    Each time the patient shown least often comes first, with its most confident prediction. Deterministic.
    """
    kinds: dict[tuple[int, bool, str], list[SliceRow]] = {}
    for row in sorted(rows, key=lambda row: (-abs(row.probability - 0.5), row.key)):
        kinds.setdefault((-row.label, not row.right, row.source), []).append(row)
    turns = itertools.cycle([queue for _, queue in sorted(kinds.items())])
    shown: Counter[tuple[str, str]] = Counter()
    selected: list[SliceKey] = []
    while len(selected) < min(number, len(rows)):
        if queue := next(turns):
            row = min(queue, key=lambda row: shown[row.source, row.patient])
            queue.remove(row)
            shown[row.source, row.patient] += 1
            selected.append(row.key)
    return selected


def localization_scores(
    saliency: NDArray[np.float32], inside: NDArray[np.bool_], reference: NDArray[np.bool_] | None
) -> tuple[float | None, float | None, bool | None]:
    """Return share of saliency in the reference, share expected by area and pointing-game hit, in the brain.

    All are None without a tumour in the reference. An all-zero map has no share, and no hit.
    """
    if reference is None or not reference.any():
        return None, None, None
    brain = inside | reference
    masked = np.where(brain, saliency, 0).astype(np.float64)
    total = float(masked.sum())
    by_area = float(np.count_nonzero(reference) / np.count_nonzero(brain))
    if total == 0:
        return None, by_area, False
    return float(masked[reference].sum()) / total, by_area, bool(reference.flat[masked.argmax()])


def write_gradcam(folder: Path, slices: Iterable[SaliencySlice], *, synthetic: bool) -> list[SaliencyRow]:
    """Write one figure per slice and `gradcam.csv` into `folder`; return the rows."""
    rows = []
    for place, sample in enumerate(slices, start=1):
        row = sample.row
        label, outcome = ("tumour" if row.label else "healthy"), ("right" if row.right else "wrong")
        saliency_row = SaliencyRow(
            f"{place:02d}_{row.source}_{row.patient}_{row.index:03d}_{label}_{outcome}.png",
            row.source, row.patient, row.case, row.index, row.label, row.probability, row.right,
            *localization_scores(sample.saliency, sample.inside, sample.reference),
        )  # fmt: skip
        draw_saliency(
            folder / saliency_row.file,
            sample.grey,
            sample.saliency,
            sample.reference,
            has_tumour=saliency_row.hit is not None,
            caption=_caption(saliency_row, synthetic),
        )
        rows.append(saliency_row)
    write_rows(folder / "gradcam.csv", rows, SaliencyRow)
    return rows


def summarise_saliency(rows: Sequence[SaliencyRow]) -> dict[str, Any]:
    """Return counts and mean scores over tumour slices by source, found and missed tumours apart."""
    sources: dict[str, dict[str, Any]] = {}
    for source, own in by_source(rows).items():
        found, missed = ([row for row in own if row.label and row.right is right] for right in (True, False))
        sources[source] = {
            "num_pictures": len(own),
            "num_right": sum(row.right for row in own),
            "tumour_found": {"num_slices": _num_located(found), **localization_means(found)},
            "tumour_missed": {"num_slices": _num_located(missed), **localization_means(missed)},
        }
    return {"num_pictures": len(rows), "sources": sources, "note": NOTE}


def localization_means(rows: Sequence[SaliencyRow | ExplanationRow]) -> dict[str, float | None]:
    """Return the means of the localization scores over the rows that have them."""
    return {
        "share_inside": mean(row.share_inside for row in rows),
        "share_by_area": mean(row.share_by_area for row in rows),
        "pointing_game": mean(row.hit for row in rows),
    }


def mean(values: Iterable[float | bool | None]) -> float | None:
    """Return the mean of the values that are not None; None where there are none."""
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _num_located(rows: Sequence[SaliencyRow]) -> int:
    return sum(row.share_by_area is not None for row in rows)


def _caption(row: SaliencyRow, synthetic: bool) -> str:
    name = f"{row.source}  {row.case}  slice {row.index}" + ("  (synthetic data)" if synthetic else "")
    label, outcome = ("tumour" if row.label else "no tumour"), ("right" if row.right else "wrong")
    text = f"{name}\ntumour probability {row.probability:.2f}, truth: {label}, {outcome}"
    if row.share_inside is None or row.share_by_area is None:
        return text
    return f"{text}\nsaliency in tumour {row.share_inside:.0%}, by area alone {row.share_by_area:.0%}"
