"""What is chosen on the validation patients, before anybody looks at the test patients.

One pass over the validation cases; a deterministic search over a small grid. A source with too few validation
patients keeps the configured thresholds: a choice among dozens of candidates on a handful of patients would
fit those patients.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    fit_scaling,
    negative_log_likelihood,
)
from slicewise.evaluation.decision import Decision
from slicewise.evaluation.evaluate import CaseOutput
from slicewise.evaluation.mask_search import MaskSearch
from slicewise.evaluation.rows import resampled

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SourceChoice:
    """What was chosen for one source, on how much, and what it does to the validation patients."""

    decision: Decision
    num_patients: int
    num_slices: int
    notes: tuple[str, ...]
    validation: Mapping[str, Any]
    pictures: bool = False
    """Whether each case is one picture, and so each of the patients a family of pictures."""

    def to_json(self) -> dict[str, Any]:
        return {
            "decision": self.decision.to_json(),
            "validation": {
                "num_patients": self.num_patients,
                "who": resampled(self.num_patients, pictures=self.pictures),
                "num_slices": self.num_slices,
                **self.validation,
            },
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Choices:
    """Final: whoever holds one may open the test patients."""

    sources: Mapping[str, SourceChoice]
    configured: Decision

    def decision(self, source: str) -> Decision:
        """Return what was chosen for a source; the configured thresholds for one without validation cases."""
        return self.sources[source].decision if source in self.sources else self.configured

    def to_json(self) -> dict[str, Any]:
        return {
            "chosen_on": "validation patients, or families of pictures",
            "configured": self.configured.to_json(),
            "sources": {source: choice.to_json() for source, choice in self.sources.items()},
        }


@dataclass(frozen=True)
class _Slices:
    """Labels, probabilities and groups of the validation slices of one source."""

    labels: Floats
    probabilities: Floats
    groups: tuple[str, ...]
    pictures: bool
    """Whether each case has one slice alone."""

    @property
    def num_groups(self) -> int:
        return len(set(self.groups))

    @property
    def both_classes(self) -> bool:
        return len(np.unique(self.labels)) == 2


def make_choices(cases: Iterable[CaseOutput], settings: Evaluation) -> Choices:
    """Choose calibration, thresholds and post-processing per source.

    Args:
        cases: the validation cases, consumed one by one.
        settings: which choices to make, and what stands where none is made.
    """
    slices: dict[str, list[_Slices]] = {}
    searches: dict[str, MaskSearch] = {}
    for case in cases:
        if not case.keys:
            continue
        source = case.keys[0].source
        slices.setdefault(source, []).append(_asked(case))
        if case.has_mask:
            searches.setdefault(source, MaskSearch(settings)).add(case)
    chosen = {
        source: _choose(_joined(parts), searches.get(source), settings)
        for source, parts in sorted(slices.items())
    }
    return Choices(chosen, Decision.configured(settings))


def _asked(case: CaseOutput) -> _Slices:
    """Return the slices that the network was asked about.

    The others have the probability 0 by decree, with tumour: one of them would flatten a whole calibration.
    """
    seen = np.ones(len(case.keys), np.bool_) if case.seen is None else case.seen
    groups = (case.group,) * int(seen.sum())
    labels, probabilities = (part[seen].astype(np.float64) for part in (case.labels, case.class_probability))
    return _Slices(labels, probabilities, groups, pictures=len(case.keys) == 1)


def _joined(parts: list[_Slices]) -> _Slices:
    return _Slices(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        tuple(group for part in parts for group in part.groups),
        pictures=all(part.pictures for part in parts),
    )


def _choose(slices: _Slices, search: MaskSearch | None, settings: Evaluation) -> SourceChoice:
    decision, notes = Decision.configured(settings), []
    if slices.num_groups < settings.min_choice_patients:
        who = resampled(slices.num_groups, pictures=slices.pictures, subset="validation")
        notes.append(
            f"{who}, fewer than evaluation.min_choice_patients ({settings.min_choice_patients}): the "
            "configured thresholds stay"
        )
    else:
        decision, notes = _choose_class(decision, slices, settings)
        if search is not None:
            decision = search.best(decision)
    return SourceChoice(
        decision,
        slices.num_groups,
        len(slices.labels),
        tuple(notes),
        _before_and_after(slices, search, decision, settings),
        slices.pictures,
    )


def _choose_class(decision: Decision, slices: _Slices, settings: Evaluation) -> tuple[Decision, list[str]]:
    if not slices.both_classes:
        return decision, ["one class only: neither calibration nor class threshold can be chosen"]
    if settings.calibrate != "none":
        shifted = settings.calibrate == "platt"
        scaling = fit_scaling(slices.labels, slices.probabilities, shifted=shifted)
        decision = replace(decision, scaling=scaling)
    scores = decision.probabilities(slices.probabilities)
    if settings.operating_point == "youden":
        decision = replace(decision, class_threshold=youden_threshold(slices.labels, scores))
    if settings.operating_point == "sensitivity":
        threshold = sensitivity_threshold(slices.labels, scores, settings.sensitivity_target)
        decision = replace(decision, class_threshold=threshold)
    return decision, []


def youden_threshold(labels: Floats, scores: Floats) -> float:
    """Return the threshold with the largest sensitivity + specificity - 1 (Youden 1950), ties nearest 0.5.

    It stands midway between two neighbouring probabilities. Both classes must be there.
    """
    thresholds = _between(scores)
    tumour = labels == 1
    gain = _share_called(scores[tumour], thresholds) - _share_called(scores[~tumour], thresholds)
    best = thresholds[gain >= gain.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def sensitivity_threshold(labels: Floats, scores: Floats, target: float) -> float:
    """Return the highest threshold that calls at least the `target` share of the tumour slices."""
    thresholds = _between(scores)
    shares = _share_called(scores[labels == 1], thresholds)
    return float(thresholds[shares >= target].max())


def _between(scores: Floats) -> Floats:
    """Return 0 and the middle of each two neighbouring distinct probabilities."""
    distinct = np.unique(scores)
    return np.concatenate([[0.0], (distinct[1:] + distinct[:-1]) / 2])


def _share_called(scores: Floats, thresholds: Floats) -> Floats:
    """Return which share of the scores reaches each threshold.

    By rank among the sorted scores: a table of thresholds by slices would take gigabytes where there are
    tens of thousands of slices.
    """
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")) / len(scores)


def _before_and_after(
    slices: _Slices, search: MaskSearch | None, decision: Decision, settings: Evaluation
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    configured = Decision.configured(settings)
    for name, its in (("before", configured), ("after", decision)):
        scores = its.probabilities(slices.probabilities)
        found[name] = {
            "negative_log_likelihood": negative_log_likelihood(slices.labels, scores),
            "ece": expected_calibration_error(slices.labels, scores, settings.calibration_bins),
            "brier": brier_score(slices.labels, scores),
            "dice_per_patient": search.mean_dice(its) if search else None,
        }
    return found
