"""What is chosen on the validation patients, before anybody looks at the test patients.

One pass over the validation cases. Every choice must gain significantly on validation groups that it was not
made on (`held_out`), or the configured default stays and a note says so. A source with too few validation
groups chooses nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from slicewise.config.schema import Evaluation
from slicewise.evaluation.bootstrap import FEWEST, Resampling
from slicewise.evaluation.calibration import (
    RAW,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from slicewise.evaluation.class_choice import ClassChoice, Slices, choose_class
from slicewise.evaluation.decision import Decision
from slicewise.evaluation.evaluate import CaseOutput
from slicewise.evaluation.held_out import Gain
from slicewise.evaluation.mask_search import MaskSearch
from slicewise.evaluation.rows import plural

MASKS: Final = "masks"


@dataclass(frozen=True)
class SourceChoice:
    """What was chosen for one source, on how much, and what it does to the validation patients.

    Attributes:
        population: its validation groups in words: patients, or families of pictures.
        gains: by choice, its gain on held-out groups; where it is not significant, the default stays.
        notes: which choices were not made, and why.
    """

    decision: Decision
    population: str
    num_groups: int
    num_slices: int
    gains: Mapping[str, Gain]
    notes: tuple[str, ...]
    validation: Mapping[str, Any]
    pictures: bool = False
    """Whether each case is one picture, and so each of the patients a family of pictures."""

    def to_json(self) -> dict[str, Any]:
        return {
            "decision": self.decision.to_json(),
            "validation": {
                "population": self.population,
                "num_patients": self.num_groups,
                "num_slices": self.num_slices,
                **self.validation,
            },
            "gains": {choice: gain.to_json() for choice, gain in self.gains.items()},
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


def make_choices(cases: Iterable[CaseOutput], settings: Evaluation, seed: int = 0) -> Choices:
    """Choose calibration, thresholds and post-processing per source.

    Args:
        cases: the validation cases, consumed one by one.
        settings: which choices to make, and what stands where none is made.
        seed: of the resamples of groups.
    """
    how = Resampling(settings.bootstrap_samples, settings.confidence, seed)
    slices: dict[str, list[Slices]] = {}
    searches: dict[str, MaskSearch] = {}
    for case in cases:
        if not case.keys:
            continue
        source = case.keys[0].source
        slices.setdefault(source, []).append(included(case))
        if case.has_mask:
            searches.setdefault(source, MaskSearch(settings)).add(case)
    chosen = {
        source: _choose(joined(parts), searches.get(source), settings, how)
        for source, parts in sorted(slices.items())
    }
    return Choices(chosen, Decision.configured(settings))


def included(case: CaseOutput) -> Slices:
    """Return the slices that the model predicted.

    The others are assigned the probability 0, with tumour: one of them would flatten a whole calibration.
    """
    seen = np.ones(len(case.keys), np.bool_) if case.seen is None else case.seen
    groups = (case.group,) * int(seen.sum())
    labels, probabilities = (part[seen].astype(np.float64) for part in (case.labels, case.class_probability))
    return Slices(labels, probabilities, groups, is_pictures=len(case.keys) == 1)


def joined(parts: list[Slices]) -> Slices:
    return Slices(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        tuple(group for part in parts for group in part.groups),
        is_pictures=all(part.is_pictures for part in parts),
    )


def _choose(slices: Slices, search: MaskSearch | None, settings: Evaluation, how: Resampling) -> SourceChoice:
    configured = Decision.configured(settings)
    if slices.num_groups < settings.min_choice_patients:
        few = (
            f"{slices.population}, fewer than evaluation.min_choice_patients "
            f"({settings.min_choice_patients}): the configured thresholds stay, {RAW}"
        )
        found = ClassChoice(configured, {}, (few,))
    else:
        found = choose_class(configured, slices, settings, how)
        if search is not None:
            found = _with_masks(found, search, how)
    return SourceChoice(
        found.decision,
        slices.population,
        slices.num_groups,
        len(slices.labels),
        found.gains,
        found.notes,
        _before_and_after(slices, search, found.decision, settings),
    )


def _with_masks(found: ClassChoice, search: MaskSearch, how: Resampling) -> ClassChoice:
    """Add mask threshold and post-processing to the choices of the class."""
    if search.num_groups < FEWEST:
        few = f"{plural(search.num_groups, 'validation patient')} with masks, fewer than {FEWEST}"
        return replace(found, notes=(*found.notes, f"{few}: mask threshold and post-processing stay"))
    decision, gain = search.best(found.decision, how)
    if gain is None:
        return found
    stays = "mask threshold and post-processing stay"
    note = (
        f"masks of another threshold or post-processing have no significant gain ({gain.describe()}): {stays}"
    )
    notes = found.notes if gain.is_significant else (*found.notes, note)
    return ClassChoice(decision, {**found.gains, MASKS: gain}, notes)


def _before_and_after(
    slices: Slices, search: MaskSearch | None, decision: Decision, settings: Evaluation
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
