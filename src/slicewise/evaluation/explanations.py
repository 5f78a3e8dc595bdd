"""Methods of explanation side by side: where their heat lies, what it is worth, whose it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.core.files import write_json
from slicewise.evaluation.faithfulness import BASELINE, STEPS, Curves
from slicewise.evaluation.gradcam_report import HeatSlice, heat_numbers
from slicewise.evaluation.rows import SliceRow, by_source, write_rows

CHANCE: Final = "random"
"""Random blobs in place of a method's heat."""
INSENSITIVE: Final = 0.5
"""Mean size of the rank correlation with the heat of the wholly forgetful network from which a method is
insensitive."""
LEVELS: Final = ("head", "decoder", "encoder")

NOTE: Final = (
    "deletion_auc, insertion_auc: area under the tumour probability (not calibrated) as the hottest part of "
    f"the brain is set to {BASELINE:g}, the mean of the brain, or restored on an empty picture, in {STEPS} "
    "steps that grow with the square (after Petsiuk 2018); of slices called tumour alone. Low deletion and "
    "high insertion are good; 'random' is heat of random blobs. pointing_game and share_inside: of tumours "
    "that were found. likeness: Spearman's correlation with the heat of a copy that has forgotten its head, "
    "also its decoder, also its encoder (Adebayo 2018), mean of its size over the pictures with heat: heat "
    "turned upside down is kept heat, too; a copy without any heat counts as 0. A method is called "
    f"insensitive from {INSENSITIVE:g} at the last of these: it shows the picture, and not what was learnt."
)


@dataclass(frozen=True)
class Explained:
    """One slice and what each method makes of it.

    `heats` are [N, N] in 0..1 by method, `curves` by method and `random` (none for a slice that was not
    called tumour), `likeness` by method one number per level of forgetting (none where there is no heat, or
    nobody asked).
    """

    shown: HeatSlice
    heats: Mapping[str, NDArray[np.float32]]
    curves: Mapping[str, Curves]
    likeness: Mapping[str, Sequence[float]]

    @property
    def row(self) -> SliceRow:
        return self.shown.row


@dataclass(frozen=True, slots=True)
class ExplanationRow:
    """What `explanations.csv` says of one slice and method."""

    source: str
    patient: str
    case: str
    index: int
    label: int
    probability: float
    right: bool
    method: str
    share_inside: float | None
    share_by_area: float | None
    hit: bool | None
    deletion_auc: float | None
    insertion_auc: float | None
    likeness_head: float | None
    likeness_decoder: float | None
    likeness_encoder: float | None


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


def write_explanations(folder: Path, found: Sequence[Explained], *, synthetic: bool) -> dict[str, Any]:
    """Write explanations.csv, curves.csv, explanations.json and the figures; return the summary by method."""
    from slicewise.evaluation.explanation_figures import draw_curves, draw_pages

    rows = [row for one in found for row in rows_of(one)]
    write_rows(folder / "explanations.csv", rows, ExplanationRow)
    write_rows(folder / "curves.csv", [row for one in found for row in _curve_rows(one)], CurveRow)
    methods = summarise(rows)
    write_json(folder / "explanations.json", {"synthetic": synthetic, "methods": methods, "note": NOTE})
    draw_curves(folder / "deletion_insertion.png", found, synthetic=synthetic)
    draw_pages(folder, found, rows, synthetic=synthetic)
    return methods


def rows_of(one: Explained) -> list[ExplanationRow]:
    """Return one row per method, and one for random blobs where there are curves of them."""
    row = one.row
    names = [*one.heats, *(name for name in one.curves if name not in one.heats)]
    return [
        ExplanationRow(
            row.source, row.patient, row.case, row.index, row.label, row.probability, row.right, name,
            *_inside(one.heats.get(name), one.shown),
            *_areas(one.curves.get(name)),
            *(one.likeness.get(name) or (None,) * len(LEVELS)),
        )
        for name in names
    ]  # fmt: skip


def summarise(rows: Sequence[ExplanationRow]) -> dict[str, Any]:
    """Return per method the means by source, and the sanity check over all pictures."""
    methods = list(dict.fromkeys(row.method for row in rows))
    return {
        method: {
            "sources": {
                source: _means(own)
                for source, own in by_source(row for row in rows if row.method == method).items()
            },
            **({} if method == CHANCE else {"sanity": _sanity([r for r in rows if r.method == method])}),
        }
        for method in methods
    }


def _means(rows: Sequence[ExplanationRow]) -> dict[str, Any]:
    tumours = [row for row in rows if row.hit is not None and row.label and row.right]
    curves = [row for row in rows if row.deletion_auc is not None]
    return {
        "num_tumours_found": len(tumours),
        "share_inside": _mean([row.share_inside for row in tumours]),
        "share_by_area": _mean([row.share_by_area for row in tumours]),
        "pointing_game": _mean([row.hit for row in tumours]),
        "num_curves": len(curves),
        "deletion_auc": _mean([row.deletion_auc for row in curves]),
        "insertion_auc": _mean([row.insertion_auc for row in curves]),
    }


def _sanity(rows: Sequence[ExplanationRow]) -> dict[str, Any]:
    means = {level: _mean_size([getattr(row, f"likeness_{level}") for row in rows]) for level in LEVELS}
    last = means[LEVELS[-1]]
    verdict = None if last is None else "insensitive" if last >= INSENSITIVE else "sensitive"
    number = sum(row.likeness_encoder is not None for row in rows)
    return {"num_pictures": number, "likeness": means, "verdict": verdict}


def _inside(
    heat: NDArray[np.float32] | None, shown: HeatSlice
) -> tuple[float | None, float | None, bool | None]:
    if heat is None or shown.reference is None or not shown.reference.any():
        return None, None, None
    return heat_numbers(heat, shown.inside, shown.reference)


def _areas(curves: Curves | None) -> tuple[float | None, float | None]:
    return (None, None) if curves is None else (curves.deletion_auc, curves.insertion_auc)


def _curve_rows(one: Explained) -> list[CurveRow]:
    row = one.row
    return [
        CurveRow(row.source, row.patient, row.case, row.index, name, *map(float, point))
        for name, curves in one.curves.items()
        for point in zip(curves.shares, curves.deletion, curves.insertion, strict=True)
    ]


def _mean_size(values: Sequence[float | None]) -> float | None:
    return _mean([None if value is None else abs(value) for value in values])


def _mean(values: Sequence[float | bool | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None
