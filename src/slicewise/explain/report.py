"""Comparison of the methods of explanation: localization, faithfulness and the randomization test."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from slicewise.core.files import write_json
from slicewise.domain.tables import by_source, write_rows
from slicewise.explain.explanation import RANDOM_SALIENCY, ExplanationRow, SliceExplanation
from slicewise.explain.faithfulness import BASELINE, STEPS
from slicewise.explain.localization import localization_means, localization_scores, mean
from slicewise.explain.pages import draw_curves, draw_pages

INSENSITIVE: Final = 0.5
"""A method is insensitive from this mean absolute rank correlation with the map of the randomized model."""
LEVELS: Final = ("head", "decoder", "encoder")

NOTE: Final = (
    "deletion_auc, insertion_auc: area under the tumour probability (not calibrated) as the most salient "
    f"part of the brain is set to {BASELINE:g}, the mean of the brain, or restored on an empty picture, in "
    f"{STEPS} steps that grow with the square (after Petsiuk 2018); slices called tumour only. Low deletion "
    "and high insertion are good; 'random' is a map of random blobs. pointing_game and share_inside: of "
    "tumours that were found. likeness: Spearman's correlation with the map of a copy of the model whose "
    "head, also decoder, also encoder is randomized (Adebayo 2018), mean of its absolute value over the "
    "pictures with a map: an inverted map counts as kept; an empty map of the copy counts as 0. A method is "
    f"called insensitive from {INSENSITIVE:g} at the last of these: it shows the picture, not the learning."
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
    rows = [row for explanation in explanations for row in explanation_rows(explanation)]
    write_rows(folder / "explanations.csv", rows, ExplanationRow)
    points = [
        CurveRow(row.source, row.patient, row.case, row.index, name, *map(float, point))
        for row, curves_of in ((explanation.row, explanation.curves) for explanation in explanations)
        for name, curves in curves_of.items()
        for point in zip(curves.shares, curves.deletion, curves.insertion, strict=True)
    ]
    write_rows(folder / "curves.csv", points, CurveRow)
    methods = summarise(rows)
    write_json(folder / "explanations.json", {"synthetic": synthetic, "methods": methods, "note": NOTE})
    draw_curves(folder / "deletion_insertion.png", explanations, synthetic=synthetic)
    draw_pages(folder, explanations, rows, synthetic=synthetic)
    return methods


def explanation_rows(explanation: SliceExplanation) -> list[ExplanationRow]:
    """Return one row per method, and one for random blobs where there are curves of them."""
    row, sample = explanation.row, explanation.sample
    rows = []
    for name in dict.fromkeys([*explanation.saliency_maps, *explanation.curves]):
        saliency, curves = explanation.saliency_maps.get(name), explanation.curves.get(name)
        rows.append(
            ExplanationRow(
                row.source, row.patient, row.case, row.index, row.label, row.probability, row.right, name,
                *(
                    (None, None, None)
                    if saliency is None
                    else localization_scores(saliency, sample.inside, sample.reference)
                ),
                curves.deletion_auc if curves else None,
                curves.insertion_auc if curves else None,
                *(explanation.rank_correlation.get(name) or (None,) * len(LEVELS)),
            )
        )  # fmt: skip
    return rows


def summarise(rows: Sequence[ExplanationRow]) -> dict[str, Any]:
    """Return per method the means by source, and the randomization test over all pictures."""
    methods: dict[str, Any] = {}
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        methods[method] = {"sources": {source: _means(part) for source, part in by_source(own).items()}}
        if method != RANDOM_SALIENCY:
            methods[method]["sanity"] = _sanity(own)
    return methods


def _means(rows: Sequence[ExplanationRow]) -> dict[str, Any]:
    tumours = [row for row in rows if row.hit is not None and row.label and row.right]
    curves = [row for row in rows if row.deletion_auc is not None]
    return {
        "num_tumours_found": len(tumours),
        **localization_means(tumours),
        "num_curves": len(curves),
        "deletion_auc": mean(row.deletion_auc for row in curves),
        "insertion_auc": mean(row.insertion_auc for row in curves),
    }


def _sanity(rows: Sequence[ExplanationRow]) -> dict[str, Any]:
    """Return the mean absolute rank correlation per level, and whether the method is sensitive."""
    means = {}
    for level in LEVELS:
        values = [getattr(row, f"likeness_{level}") for row in rows]
        means[level] = mean(None if value is None else abs(value) for value in values)
    last = means[LEVELS[-1]]
    verdict = None if last is None else "insensitive" if last >= INSENSITIVE else "sensitive"
    number = sum(row.likeness_encoder is not None for row in rows)
    return {"num_pictures": number, "likeness": means, "verdict": verdict}
