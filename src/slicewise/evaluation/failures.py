"""What went wrong on the test patients, and what the failures have in common against the rest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.keys import CaseKey, SliceKey
from slicewise.domain.labels import CLASSIFICATION, MODALITIES
from slicewise.domain.tables import PatientRow, SliceRow, by_source
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.metrics.confusion import roc_auc
from slicewise.plots.sample_predictions import display_slot

Key = TypeVar("Key", SliceKey, tuple[str, str])

ALL: Final = "all"
_SMALL, _MEDIUM, _LARGE = 0.147, 0.33, 0.474
_FEWEST = 5


@dataclass(frozen=True)
class SliceImage:
    """What a slice looks like, whatever is predicted on it."""

    presence: tuple[bool, ...]
    intensity_range: float
    """1st to 99th percentile inside the brain of the modality that is shown, in standard deviations."""


@dataclass(frozen=True, slots=True)
class FailedSlice:
    """One slice that failed, and how."""

    source: str
    patient: str
    case: str
    index: int
    kind: str
    dice: float | None
    iou: float | None
    label: int
    predicted: int
    probability: float
    reference_pixels: int | None
    predicted_pixels: int

    @property
    def key(self) -> SliceKey:
        return SliceKey(self.source, self.patient, self.case, self.index)


@dataclass(frozen=True, slots=True)
class FailedPatient:
    """One patient whose masks, all slices together, fall below the threshold."""

    source: str
    patient: str
    dice: float
    iou: float
    hd95_mm: float | None
    reference_ml: float | None
    predicted_ml: float | None


@dataclass(frozen=True, slots=True)
class TraitRow:
    """One trait of the failures beside that of the rest.

    `effect` is Cliff's delta (1993): how much more often a failure has the larger value than the smaller one,
    compared with one of the rest; -1 to 1. Of a yes-or-no trait it is the difference of the two shares.
    """

    level: str
    source: str
    trait: str
    num_failed: int
    num_rest: int
    failed: float
    """Median; of a yes-or-no trait the share."""
    rest: float
    effect: float
    strength: str
    """After Romano et al. 2006; `too few` where one side has fewer than five."""


@dataclass(frozen=True)
class FailureAnalysis:
    """Failures, worst first, and their traits, strongest first."""

    slices: tuple[FailedSlice, ...]
    patients: tuple[FailedPatient, ...]
    traits: tuple[TraitRow, ...]
    num_judged: Mapping[str, int]
    """Slices of each source that could fail: with tumour in the reference or the prediction, or pictures."""
    threshold: float


def describe_image(images: NDArray[np.floating], presence: Sequence[bool]) -> SliceImage:
    """Describe one prepared slice [4, N, N]."""
    shown = images[display_slot(presence)].astype(np.float32)
    inside = shown[shown != 0]
    low, high = np.percentile(inside, [1, 99]) if inside.size else (0.0, 0.0)
    return SliceImage(tuple(bool(there) for there in presence), float(high - low))


def analyse_failures(
    result: EvaluationResult, images: Mapping[SliceKey, SliceImage], dice: float
) -> FailureAnalysis:
    """Find the failures of a result.

    Args:
        result: the tables.
        images: what each of its slices looks like.
        dice: masks below this Dice failed; a slice without a mask fails when it is called wrongly.
    """
    judged = judged_rows(result)
    failed = [row for row in judged if _failure(row, dice)]
    patients = [row for row in result.patients if row.dice is not None]
    found = sorted((_failed_slice(row, dice) for row in failed), key=_worst_first)
    return FailureAnalysis(
        tuple(found),
        tuple(_failed_patients(patients, dice)),
        tuple(_slice_traits(judged, result.slices, images, dice) + _patient_traits(patients, images, dice)),
        {source: len(rows) for source, rows in by_source(judged).items()},
        dice,
    )


def failed_rows(result: EvaluationResult, dice: float) -> list[SliceRow]:
    """Return the rows of the slices that failed."""
    return [row for row in judged_rows(result) if _failure(row, dice)]


def judged_rows(result: EvaluationResult) -> list[SliceRow]:
    """Return the rows that could fail; where the calls mean nothing, those with masks alone."""
    calls_count = CLASSIFICATION not in result.not_trained
    return [row for row in result.slices if _is_judged(row) and (calls_count or row.dice is not None)]


def cliffs_delta(failed: Sequence[float], rest: Sequence[float]) -> float:
    """Return P(failed > rest) - P(failed < rest) (Cliff 1993); NaN where one of them is empty."""
    labels = [1] * len(failed) + [0] * len(rest)
    return float(2 * roc_auc(labels, [*failed, *rest]) - 1)


def strength(effect: float) -> str:
    """Name the size of Cliff's delta as Romano et al. 2006 did."""
    bounds = ((_SMALL, "negligible"), (_MEDIUM, "small"), (_LARGE, "medium"))
    return next((name for bound, name in bounds if abs(effect) < bound), "large")


def _is_judged(row: SliceRow) -> bool:
    """A slice in which neither mask has a pixel is right, and says nothing of how masks fail."""
    return row.dice is None or bool(row.reference_pixels or row.predicted_pixels)


def _failure(row: SliceRow, dice: float) -> str:
    """Return how a slice failed, or nothing."""
    if row.dice is None:
        return "" if row.right else "called wrongly"
    if row.dice >= dice:
        return ""
    if not row.reference_pixels:
        return "false alarm"
    return "poor overlap" if row.common_pixels else "missed"


def _failed_slice(row: SliceRow, dice: float) -> FailedSlice:
    return FailedSlice(
        row.source, row.patient, row.case, row.index, _failure(row, dice), row.dice, row.iou, row.label,
        row.predicted, row.probability, row.reference_pixels, row.predicted_pixels,
    )  # fmt: skip


def _worst_first(row: FailedSlice) -> tuple[bool, float, int, SliceKey]:
    """Masks before calls; the lowest Dice first, of equal ones the largest miss."""
    if row.dice is None:
        return True, -abs(row.probability - row.label), 0, row.key
    return False, row.dice, -max(row.reference_pixels or 0, row.predicted_pixels), row.key


def _failed_patients(rows: Iterable[PatientRow], dice: float) -> list[FailedPatient]:
    found = [
        FailedPatient(
            row.source, row.patient, row.dice, row.iou or 0.0, row.hd95_mm, row.reference_ml, row.predicted_ml
        )
        for row in rows
        if row.dice is not None and row.dice < dice
    ]
    return sorted(found, key=lambda row: (row.dice, row.source, row.patient))


def _slice_traits(
    judged: Sequence[SliceRow], rows: Sequence[SliceRow], images: Mapping[SliceKey, SliceImage], dice: float
) -> list[TraitRow]:
    position = _positions(rows)
    traits: dict[SliceKey, dict[str, float]] = {}
    for row in judged:
        size = {"tumour, pixels of the reference": row.reference_pixels} if row.reference_pixels else {}
        place = _place(position[row.key]) if row.key in position else {}
        traits[row.key] = {**size, **place, **_image_traits([images[row.key]])}
    failed = {row.key for row in judged if _failure(row, dice)}
    return _trait_rows("slice", {row.key: row.source for row in judged}, traits, failed)


def _patient_traits(
    rows: Sequence[PatientRow], images: Mapping[SliceKey, SliceImage], dice: float
) -> list[TraitRow]:
    pictures: dict[tuple[str, str], list[SliceImage]] = {}
    for key, image in images.items():
        pictures.setdefault((key.source, key.patient), []).append(image)
    traits: dict[tuple[str, str], dict[str, float]] = {}
    failed: set[tuple[str, str]] = set()
    for row in rows:
        name = (row.source, row.patient)
        size = {} if row.reference_ml is None else {"tumour, ml of the reference": row.reference_ml}
        share = {"share of slices with tumour": row.num_tumour_slices / row.num_slices}
        traits[name] = {**size, **share, **_image_traits(pictures[name])}
        if row.dice is not None and row.dice < dice:
            failed.add(name)
    return _trait_rows("patient", {name: name[0] for name in traits}, traits, failed)


def _image_traits(images: Sequence[SliceImage]) -> dict[str, float]:
    there = np.array([image.presence for image in images]).mean(axis=0)
    ranges = float(np.median([image.intensity_range for image in images]))
    names = (f"has {name}" for name in MODALITIES)
    return {"intensity range, SD": ranges, **dict(zip(names, there.tolist(), strict=True))}


def _place(position: float) -> dict[str, float]:
    return {
        "position in the case, 0 first to 1 last": position,
        "distance from the middle of the case": abs(position - 0.5),
    }


def _positions(rows: Sequence[SliceRow]) -> dict[SliceKey, float]:
    """Return where each slice stands among the slices of its case; a picture stands nowhere."""
    cases: dict[CaseKey, list[int]] = {}
    for row in rows:
        cases.setdefault(row.key.case_key, []).append(row.index)
    ends = {case: (min(found), max(found)) for case, found in cases.items() if len(found) > 1}
    return {
        row.key: (row.index - ends[row.key.case_key][0]) / np.ptp(ends[row.key.case_key])
        for row in rows
        if row.key.case_key in ends
    }


def _trait_rows(
    level: str, sources: Mapping[Key, str], traits: Mapping[Key, Mapping[str, float]], failed: set[Key]
) -> list[TraitRow]:
    rows: list[TraitRow] = []
    for source in sorted(set(sources.values())):
        own = {key: traits[key] for key in traits if sources[key] == source}
        rows += _compare(level, source, own, failed)
    if len(set(sources.values())) > 1:
        names = sorted(set(sources.values()))
        origin = {key: {f"is of {name}": float(sources[key] == name) for name in names} for key in traits}
        rows += _compare(level, ALL, origin, failed)
    return sorted(rows, key=lambda row: (-abs(row.effect), row.source, row.trait))


def _compare(
    level: str, source: str, traits: Mapping[Key, Mapping[str, float]], failed: set[Key]
) -> list[TraitRow]:
    names = sorted({name for own in traits.values() for name in own})
    rows = []
    for name in names:
        bad: list[float] = [own[name] for key, own in traits.items() if key in failed and name in own]
        good: list[float] = [own[name] for key, own in traits.items() if key not in failed and name in own]
        if not bad or not good or len({*bad, *good}) < 2:
            continue
        is_share = name.startswith(("has ", "is of "))
        typical = [float(np.mean(own) if is_share else np.median(own)) for own in (bad, good)]
        effect = cliffs_delta(bad, good)
        rows.append(
            TraitRow(
                level, source, name, len(bad), len(good), typical[0], typical[1], effect,
                strength(effect) if min(len(bad), len(good)) >= _FEWEST else "too few",
            )
        )  # fmt: skip
    return rows
