"""Methods of explanation side by side: where their heat lies, what it is worth, whose it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.core.files import write_json
from slicewise.domain.tables import by_source, write_rows
from slicewise.explain.explanation import RANDOM_SALIENCY, ExplanationRow, SliceExplanation
from slicewise.explain.faithfulness import BASELINE, STEPS, Curves
from slicewise.explain.localization import SaliencySlice, localization_scores

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


def write_explanations(
    folder: Path, explanations: Sequence[SliceExplanation], *, synthetic: bool
) -> dict[str, Any]:
    """Write explanations.csv, curves.csv, explanations.json and the figures; return the summary by method."""
    from slicewise.explain.pages import draw_curves, draw_pages

    rows = [row for explanation in explanations for row in explanation_rows(explanation)]
    write_rows(folder / "explanations.csv", rows, ExplanationRow)
    write_rows(
        folder / "curves.csv",
        [row for explanation in explanations for row in _curve_rows(explanation)],
        CurveRow,
    )
    methods = summarise(rows)
    write_json(folder / "explanations.json", {"synthetic": synthetic, "methods": methods, "note": NOTE})
    draw_curves(folder / "deletion_insertion.png", explanations, synthetic=synthetic)
    draw_pages(folder, explanations, rows, synthetic=synthetic)
    return methods


def explanation_rows(explanation: SliceExplanation) -> list[ExplanationRow]:
    """Return one row per method, and one for random blobs where there are curves of them."""
    row = explanation.row
    names = [
        *explanation.saliency_maps,
        *(name for name in explanation.curves if name not in explanation.saliency_maps),
    ]
    return [
        ExplanationRow(
            row.source, row.patient, row.case, row.index, row.label, row.probability, row.right, name,
            *_localization(explanation.saliency_maps.get(name), explanation.sample),
            *_areas(explanation.curves.get(name)),
            *(explanation.rank_correlation.get(name) or (None,) * len(LEVELS)),
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
            **(
                {}
                if method == RANDOM_SALIENCY
                else {"sanity": _sanity([r for r in rows if r.method == method])}
            ),
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


def _localization(
    saliency: NDArray[np.float32] | None, sample: SaliencySlice
) -> tuple[float | None, float | None, bool | None]:
    if saliency is None or sample.reference is None or not sample.reference.any():
        return None, None, None
    return localization_scores(saliency, sample.inside, sample.reference)


def _areas(curves: Curves | None) -> tuple[float | None, float | None]:
    return (None, None) if curves is None else (curves.deletion_auc, curves.insertion_auc)


def _curve_rows(explanation: SliceExplanation) -> list[CurveRow]:
    row = explanation.row
    return [
        CurveRow(row.source, row.patient, row.case, row.index, name, *map(float, point))
        for name, curves in explanation.curves.items()
        for point in zip(curves.shares, curves.deletion, curves.insertion, strict=True)
    ]


def _mean_size(values: Sequence[float | None]) -> float | None:
    return _mean([None if value is None else abs(value) for value in values])


def _mean(values: Sequence[float | bool | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None
