"""Failures on the test patients, and traits by which they differ from the rest."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from slicewise.core.files import atomic_write, write_text
from slicewise.domain.keys import CaseKey, SliceKey, safe_name
from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.report import WIDTH, Table
from slicewise.domain.tables import FailedSlice, PatientRow, SliceRow, TraitRow, by_source, plural, write_rows
from slicewise.domain.wording import reword
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.metrics.confusion import roc_auc
from slicewise.metrics.table import METRICS
from slicewise.plots.classification import draw_failure_confusion
from slicewise.plots.sample_predictions import SlicePicture, display_slot, draw_failures, in_turns
from slicewise.plots.scores import draw_iou_bars

Key = TypeVar("Key", SliceKey, tuple[str, str])
Traits = dict[str, float]

ALL: Final = "all"
_FEWEST = 5


@dataclass(frozen=True)
class SliceImage:
    """Traits of the image of a slice, whatever is predicted on it."""

    presence: Mapping[str, bool]
    """Whether each channel holds an image."""
    intensity_range: float
    """1st to 99th percentile inside the brain of the displayed modality, in standard deviations."""


@dataclass(frozen=True)
class FailureAnalysis:
    """Failures, worst first, and their traits, strongest first."""

    slices: tuple[FailedSlice, ...]
    patients: tuple[PatientRow, ...]
    traits: tuple[TraitRow, ...]
    num_judged: Mapping[str, int]
    """Slices of each source that could fail: with tumour in the reference or the prediction, or pictures."""
    threshold: float
    metric: Literal["dice", "iou"] = "dice"
    """The score of masks that failed below the threshold"""

    @property
    def limit(self) -> str:
        """The threshold in words."""
        return f"{METRICS[self.metric].label} below {self.threshold:g}"


def describe_image(images: NDArray[np.floating], presence: Mapping[str, bool]) -> SliceImage:
    """Return the traits of one prepared slice [channel, N, N]."""
    shown = images[display_slot([*presence.values()])].astype(np.float32)
    inside = shown[shown != 0]
    low, high = np.percentile(inside, [1, 99]) if inside.size else (0.0, 0.0)
    return SliceImage(presence, float(high - low))


def analyse_failures(
    result: EvaluationResult,
    images: Mapping[SliceKey, SliceImage],
    threshold: float,
    metric: Literal["dice", "iou"] = "dice",
) -> FailureAnalysis:
    """Return the failures of a result and their traits; `images` are the traits of the image of each slice.

    Masks with a score below the threshold failed; a slice without a mask fails when its predicted class is
    wrong.
    """
    classified = CLASSIFICATION in result.tasks
    judged = [  # slices without a pixel in either mask are correct and say nothing about masks
        row
        for row in result.slices
        if (classified if row.dice is None else row.reference_pixels or row.predicted_pixels)
    ]
    slices = [
        FailedSlice(**{field.name: getattr(row, field.name) for field in fields(row)}, kind=kind)
        for row in judged
        if (kind := _failure(row, threshold, metric))
    ]
    masked = [row for row in result.patients if row.dice is not None]
    patients = [row for row in masked if (score := row.scores[metric]) is not None and score < threshold]
    slice_traits = _slice_traits(judged, result.slices, images)
    traits = _trait_rows("slice", slice_traits, {row.key for row in slices})
    if len(result.patients) < len(result.slices):  # else each is the other
        patient_traits = _patient_traits(masked, images)
        traits += _trait_rows("patient", patient_traits, {(row.source, row.patient) for row in patients})
    return FailureAnalysis(
        tuple(sorted(slices, key=_severity)),
        tuple(sorted(patients, key=lambda row: (row.dice, row.source, row.patient))),
        tuple(traits),
        {source: len(rows) for source, rows in by_source(judged).items()},
        threshold,
        metric,
    )


def cliffs_delta(failed: Sequence[float], rest: Sequence[float]) -> float:
    """Return P(failed > rest) - P(failed < rest) (Cliff 1993); NaN where one of them is empty."""
    labels = [1] * len(failed) + [0] * len(rest)
    return float(2 * roc_auc(labels, [*failed, *rest]) - 1)


def strength(effect: float) -> str:
    """Return the name of the size of Cliff's delta (Romano et al. 2006)."""
    bounds = ((0.147, "negligible"), (0.33, "small"), (0.474, "medium"))
    return next((name for bound, name in bounds if abs(effect) < bound), "large")


def _failure(row: SliceRow, threshold: float, metric: str) -> str:
    """Return the kind of failure of a slice; empty where it did not fail."""
    if row.dice is None:
        return "" if row.right else "called wrongly"
    if (row.scores[metric] or 0) >= threshold:
        return ""
    if not row.reference_pixels:
        return "false alarm"
    return "poor overlap" if row.common_pixels else "missed"


def _severity(row: FailedSlice) -> tuple[bool, float, int, SliceKey]:
    """Return the sort key, worst first: masks before classes, then the lowest Dice, then the largest miss."""
    if row.dice is None:
        wrong = row.probability if row.class_probabilities else abs(row.probability - row.label)
        return True, -wrong, 0, row.key
    return False, row.dice, -max(row.reference_pixels or 0, row.predicted_pixels), row.key


def _slice_traits(
    judged: Sequence[SliceRow], rows: Sequence[SliceRow], images: Mapping[SliceKey, SliceImage]
) -> dict[str, dict[SliceKey, Traits]]:
    """Return by source the traits of each judged slice; a picture has no position."""
    indices: dict[CaseKey, list[int]] = {}
    for row in rows:
        indices.setdefault(row.key.case_key, []).append(row.index)
    spans = {case: (min(own), max(own)) for case, own in indices.items() if len(own) > 1}
    traits: dict[str, dict[SliceKey, Traits]] = {}
    for row in judged:
        own: Traits = _image_traits([images[row.key]])
        if row.reference_pixels:
            own["tumour, pixels of the reference"] = row.reference_pixels
        if row.key.case_key in spans:
            first, last = spans[row.key.case_key]
            position = (row.index - first) / (last - first)
            own["position in the case, 0 first to 1 last"] = position
            own["distance from the middle of the case"] = abs(position - 0.5)
        traits.setdefault(row.source, {})[row.key] = own
    return traits


def _patient_traits(
    rows: Sequence[PatientRow], images: Mapping[SliceKey, SliceImage]
) -> dict[str, dict[tuple[str, str], Traits]]:
    """Return by source the traits of each patient."""
    images_of: dict[tuple[str, str], list[SliceImage]] = {}
    for key, image in images.items():
        images_of.setdefault((key.source, key.patient), []).append(image)
    traits: dict[str, dict[tuple[str, str], Traits]] = {}
    for row in rows:
        own = _image_traits(images_of[row.source, row.patient])
        own["share of slices with tumour"] = row.num_tumour_slices / row.num_slices
        if row.reference_ml is not None:
            own["tumour, ml of the reference"] = row.reference_ml
        traits.setdefault(row.source, {})[row.source, row.patient] = own
    return traits


def _image_traits(images: Sequence[SliceImage]) -> Traits:
    traits: Traits = {
        f"has {name}": float(np.mean([image.presence[name] for image in images]))
        for name in images[0].presence
    }
    return {**traits, "intensity range, SD": float(np.median([image.intensity_range for image in images]))}


def _trait_rows(
    level: str, traits: Mapping[str, Mapping[Key, Traits]], failed: Collection[Key]
) -> list[TraitRow]:
    """Return the comparisons of each source and, with several, of the share of each source; largest first."""
    groups: dict[str, Mapping[Key, Traits]] = dict(traits)
    if len(traits) > 1:
        groups[ALL] = {
            key: {f"is of {name}": float(source == name) for name in traits}
            for source, own in traits.items()
            for key in own
        }
    rows = []
    for source, group in groups.items():
        for name in sorted({name for own in group.values() for name in own}):
            bad: list[float] = [own[name] for key, own in group.items() if key in failed and name in own]
            good: list[float] = [own[name] for key, own in group.items() if key not in failed and name in own]
            if not bad or not good or len({*bad, *good}) < 2:
                continue
            average = np.mean if name.startswith(("has ", "is of ")) else np.median
            effect, is_judged = cliffs_delta(bad, good), min(len(bad), len(good)) >= _FEWEST
            rows.append(
                TraitRow(
                    *(level, source, name, len(bad), len(good), float(average(bad)), float(average(good))),
                    *(effect, strength(effect) if is_judged else "too few"),
                )
            )
    return sorted(rows, key=lambda row: (-abs(row.effect), row.source, row.trait))


def select_failures(analysis: FailureAnalysis, number: int) -> list[FailedSlice]:
    """Return slices to draw: the worst of each patient, then second ones; every source has its share."""
    sources = by_source(in_turns(analysis.slices))
    share = -(-number // max(1, len(sources)))
    return [row for rows in sources.values() for row in rows[:share]][:number]


def write_failures(
    folder: Path,
    result: EvaluationResult,
    analysis: FailureAnalysis,
    pictures: Sequence[SlicePicture[FailedSlice]],
    *,
    synthetic: bool,
) -> dict[str, Any]:
    """Write report.txt, three tables, three figures and the pictures into `folder`; return counts."""
    write_text(folder / "report.txt", "\n".join(map(reword, _lines(analysis, synthetic=synthetic))) + "\n")
    write_rows(folder / "slices.csv", analysis.slices, FailedSlice)
    write_rows(folder / "patients.csv", analysis.patients, PatientRow)
    write_rows(folder / "traits.csv", analysis.traits, TraitRow)
    for picture in pictures:
        row = picture.row
        stem = safe_name(f"{row.source}-{row.case}-{row.index:03d}")
        for name, image in picture.files().items():
            with atomic_write(folder / "pictures" / f"{stem}_{name}.png") as stream:
                stream.write(image)
    number = len(analysis.slices)
    draw_failures(folder / "failures.png", pictures, number, analysis.metric, synthetic=synthetic)
    draw_iou_bars(folder / "iou_of_failures.png", analysis.slices, analysis.patients, synthetic=synthetic)
    failed = by_source(analysis.slices)
    draw_failure_confusion(folder / "confusion_matrices.png", result, failed, synthetic=synthetic)
    return {
        "limit": analysis.limit,
        "metric": analysis.metric,
        "num_slices": len(analysis.slices),
        "num_patients": len(analysis.patients),
    }


def _lines(analysis: FailureAnalysis, *, synthetic: bool) -> Iterator[str]:
    yield "Failures on the test patients" + (" (synthetic data)" if synthetic else "")
    yield "=" * WIDTH
    yield f"A mask fails with {analysis.limit}; without a mask, a wrong class fails."
    yield "Slices in which neither reference nor prediction has a tumour are not counted."
    failed = by_source(analysis.slices)
    for source, number in analysis.num_judged.items():
        rows = failed.get(source, [])
        kinds = sorted(Counter(row.kind for row in rows).items())
        counts = f" ({', '.join(f'{count} {kind}' for kind, count in kinds)})" if kinds else ""
        yield f"{source}: {len(rows)} of {plural(number, 'slice')} failed{counts}"
    names = ", ".join(
        f"{row.source}/{row.patient} ({row.scores[analysis.metric]:.2f})" for row in analysis.patients
    )
    yield f"patients that failed: {names or 'none'}"
    yield ""
    if not analysis.traits:
        yield "Nothing to compare: no slice failed, or all did."
        return
    rows = [
        (
            *(row.level, row.source, row.trait, f"{row.failed:.3g}", f"{row.rest:.3g}"),
            f"{row.effect:+.2f} {row.strength} ({row.num_failed} against {row.num_rest})",
        )
        for row in analysis.traits
    ]
    caption = "What the failures have in common, strongest first (medians; shares of yes-or-no traits):"
    yield from Table(("level", "source", "trait", "failed", "rest", "effect"), rows, caption).lines()
    yield ""
    yield "effect: Cliff's delta. Slices of one patient resemble each other: few patients prove little."
