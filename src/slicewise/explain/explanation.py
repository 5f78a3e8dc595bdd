"""Explanations of slices by each method: as arrays, as rows of tables, and summed up.

Localization is judged by the share of the saliency in the tumour and by the pointing game (Zhang 2018).
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import SliceRow, by_source
from slicewise.explain.faithfulness import CASCADE_ORDER, Curves

RANDOM_SALIENCY: Final = "random"
"""Name of the baseline: random blobs in place of a method's saliency map."""
INSENSITIVE: Final = 0.5
"""A method is insensitive from this mean absolute rank correlation with the map of the randomized model."""


@dataclass(frozen=True)
class SliceExplanation:
    """One slice with the results of each method; all images [N, N]."""

    row: SliceRow
    grey: NDArray[np.float32]
    inside: NDArray[np.bool_]
    """The brain"""
    reference: NDArray[np.bool_] | None
    saliency_maps: Mapping[str, NDArray[np.float32]]
    """In 0..1 by method, "gradcam" among them"""
    curves: Mapping[str, Curves]
    """By method and `random`; empty for a slice that was not called tumour"""
    rank_correlation: Mapping[str, Sequence[float]]
    """By method, one per level of randomization; none for an empty map or outside the randomization test"""


@dataclass(frozen=True, slots=True)
class SaliencyRow:
    """One slice in `gradcam.csv`."""

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


@dataclass(frozen=True, slots=True)
class ExplanationRow:
    """One slice and method in `explanations.csv`."""

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


def select_saliency_slices(rows: Sequence[SliceRow], number: int) -> list[SliceKey]:
    """Return up to `number` slices, in turn over source, label and correct or wrong prediction.

    Each time the patient shown least often comes first, with its most confident prediction. Deterministic.
    """
    kinds: dict[tuple[int, bool, str], list[SliceRow]] = {}
    for row in sorted(rows, key=lambda row: (-_confidence(row), row.key)):
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


def _confidence(row: SliceRow) -> float:
    return row.probability if row.class_probabilities else abs(row.probability - 0.5)


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


def explanation_rows(explanation: SliceExplanation) -> list[ExplanationRow]:
    """Return one row per method, and one for random blobs where there are curves of them."""
    row, rows = explanation.row, []
    for name in dict.fromkeys([*explanation.saliency_maps, *explanation.curves]):
        located: Sequence[Any] = (None, None, None)
        if name in explanation.saliency_maps:
            saliency = explanation.saliency_maps[name]
            located = localization_scores(saliency, explanation.inside, explanation.reference)
        curves = explanation.curves.get(name)
        areas = (curves.deletion_auc, curves.insertion_auc) if curves else (None, None)
        likeness = explanation.rank_correlation.get(name) or (None,) * len(CASCADE_ORDER)
        rows.append(
            ExplanationRow(
                *(row.source, row.patient, row.case, row.index, row.label, row.probability, row.right),
                *(name, *located, *areas, *likeness),
            )
        )
    return rows


def summarise_saliency(rows: Sequence[SaliencyRow]) -> dict[str, Any]:
    """Return counts and mean scores over tumour slices by source, found and missed tumours apart."""
    sources: dict[str, dict[str, Any]] = {}
    for source, own in by_source(rows).items():
        sources[source] = {"num_pictures": len(own), "num_right": sum(row.right for row in own)}
        for name, right in (("tumour_found", True), ("tumour_missed", False)):
            tumours = [row for row in own if row.label and row.right is right]
            num_located = sum(row.share_by_area is not None for row in tumours)
            sources[source][name] = {"num_slices": num_located, **_localization_means(tumours)}
    return {"num_pictures": len(rows), "sources": sources}


def summarise_methods(rows: Sequence[ExplanationRow]) -> dict[str, Any]:
    """Return per method the means by source, and the randomization test over all pictures."""
    methods: dict[str, Any] = {}
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        means = {source: _method_means(part) for source, part in by_source(own).items()}
        methods[method] = {"sources": means}
        if method != RANDOM_SALIENCY:
            methods[method]["sanity"] = _randomization_test(own)
    return methods


def _method_means(rows: Sequence[ExplanationRow]) -> dict[str, Any]:
    tumours = [row for row in rows if row.hit is not None and row.label and row.right]
    return {
        "num_tumours_found": len(tumours),
        **_localization_means(tumours),
        "num_curves": sum(row.deletion_auc is not None for row in rows),
        "deletion_auc": _mean(row.deletion_auc for row in rows),
        "insertion_auc": _mean(row.insertion_auc for row in rows),
    }


def _randomization_test(rows: Sequence[ExplanationRow]) -> dict[str, Any]:
    """Return the mean absolute rank correlation per level, and whether the method is sensitive."""
    means = {}
    for level in CASCADE_ORDER:
        values = [getattr(row, f"likeness_{level}") for row in rows]
        means[level] = _mean(None if value is None else abs(value) for value in values)
    last, verdict = means[CASCADE_ORDER[-1]], None
    if last is not None:
        verdict = "insensitive" if last >= INSENSITIVE else "sensitive"
    number = sum(row.likeness_encoder is not None for row in rows)
    return {"num_pictures": number, "likeness": means, "verdict": verdict}


def _localization_means(rows: Sequence[SaliencyRow | ExplanationRow]) -> dict[str, float | None]:
    return {
        "share_inside": _mean(row.share_inside for row in rows),
        "share_by_area": _mean(row.share_by_area for row in rows),
        "pointing_game": _mean(row.hit for row in rows),
    }


def _mean(values: Iterable[float | bool | None]) -> float | None:
    """Return the mean of the values that are not None; None where there are none."""
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None
