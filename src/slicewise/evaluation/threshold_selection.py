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
from slicewise.domain.tables import plural
from slicewise.evaluation.class_threshold import ClassSelection, SliceProbabilities, select_class_threshold
from slicewise.evaluation.evaluate import CaseOutput
from slicewise.evaluation.mask_threshold import MaskGridSearch
from slicewise.evaluation.selection_gain import SelectionGain
from slicewise.evaluation.statistics.bootstrap import MIN_PATIENTS, BootstrapSettings
from slicewise.inference.calibration import (
    NOT_CALIBRATED,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from slicewise.inference.postprocess import Postprocessing

MASKS: Final = "masks"


@dataclass(frozen=True)
class SourceSelection:
    """What was chosen for one source, on how much, and what it does to the validation patients.

    Attributes:
        population: its validation groups in words: patients, or families of pictures.
        gains: by choice, its gain on held-out groups; where it is not significant, the default stays.
        notes: which choices were not made, and why.
    """

    postprocessing: Postprocessing
    population: str
    num_groups: int
    num_slices: int
    gains: Mapping[str, SelectionGain]
    notes: tuple[str, ...]
    validation: Mapping[str, Any]
    pictures: bool = False
    """Whether each case is one picture, and so each of the patients a family of pictures."""

    def to_json(self) -> dict[str, Any]:
        return {
            "decision": self.postprocessing.to_json(),
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
class ThresholdSelection:
    """Final: whoever holds one may open the test patients."""

    sources: Mapping[str, SourceSelection]
    configured: Postprocessing

    def postprocessing(self, source: str) -> Postprocessing:
        """Return what was chosen for a source; the configured thresholds for one without validation cases."""
        return self.sources[source].postprocessing if source in self.sources else self.configured

    def to_json(self) -> dict[str, Any]:
        return {
            "chosen_on": "validation patients, or families of pictures",
            "configured": self.configured.to_json(),
            "sources": {source: choice.to_json() for source, choice in self.sources.items()},
        }


def select_thresholds(cases: Iterable[CaseOutput], settings: Evaluation, seed: int = 0) -> ThresholdSelection:
    """Choose calibration, thresholds and post-processing per source.

    Args:
        cases: the validation cases, consumed one by one.
        settings: which choices to make, and what stands where none is made.
        seed: of the resamples of groups.
    """
    bootstrap = BootstrapSettings(settings.bootstrap_samples, settings.confidence, seed)
    slices: dict[str, list[SliceProbabilities]] = {}
    searches: dict[str, MaskGridSearch] = {}
    for case in cases:
        if not case.keys:
            continue
        source = case.keys[0].source
        slices.setdefault(source, []).append(included_slices(case))
        if case.has_mask:
            searches.setdefault(source, MaskGridSearch(settings)).add(case)
    chosen = {
        source: _select_for_source(concatenate_slices(parts), searches.get(source), settings, bootstrap)
        for source, parts in sorted(slices.items())
    }
    return ThresholdSelection(chosen, Postprocessing.configured(settings))


def included_slices(case: CaseOutput) -> SliceProbabilities:
    """Return the slices that the model predicted.

    The others are assigned the probability 0, with tumour: one of them would flatten a whole calibration.
    """
    included = np.ones(len(case.keys), np.bool_) if case.included is None else case.included
    groups = (case.group,) * int(included.sum())
    labels, probabilities = (
        part[included].astype(np.float64) for part in (case.labels, case.class_probability)
    )
    return SliceProbabilities(labels, probabilities, groups, is_pictures=len(case.keys) == 1)


def concatenate_slices(parts: list[SliceProbabilities]) -> SliceProbabilities:
    return SliceProbabilities(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        tuple(group for part in parts for group in part.groups),
        is_pictures=all(part.is_pictures for part in parts),
    )


def _select_for_source(
    slices: SliceProbabilities,
    search: MaskGridSearch | None,
    settings: Evaluation,
    bootstrap: BootstrapSettings,
) -> SourceSelection:
    configured = Postprocessing.configured(settings)
    if slices.num_groups < settings.min_choice_patients:
        few = (
            f"{slices.population}, fewer than evaluation.min_choice_patients "
            f"({settings.min_choice_patients}): the configured thresholds stay, {NOT_CALIBRATED}"
        )
        selected = ClassSelection(configured, {}, (few,))
    else:
        selected = select_class_threshold(configured, slices, settings, bootstrap)
        if search is not None:
            selected = _select_masks(selected, search, bootstrap)
    return SourceSelection(
        selected.postprocessing,
        slices.population,
        slices.num_groups,
        len(slices.labels),
        selected.gains,
        selected.notes,
        _validation_scores(slices, search, selected.postprocessing, settings),
    )


def _select_masks(
    selected: ClassSelection, search: MaskGridSearch, bootstrap: BootstrapSettings
) -> ClassSelection:
    """Add mask threshold and post-processing to the choices of the class."""
    if search.num_groups < MIN_PATIENTS:
        few = f"{plural(search.num_groups, 'validation patient')} with masks, fewer than {MIN_PATIENTS}"
        return replace(selected, notes=(*selected.notes, f"{few}: mask threshold and post-processing stay"))
    postprocessing, gain = search.best(selected.postprocessing, bootstrap)
    if gain is None:
        return selected
    stays = "mask threshold and post-processing stay"
    note = (
        f"masks of another threshold or post-processing have no significant gain ({gain.describe()}): {stays}"
    )
    notes = selected.notes if gain.is_significant else (*selected.notes, note)
    return ClassSelection(postprocessing, {**selected.gains, MASKS: gain}, notes)


def _validation_scores(
    slices: SliceProbabilities,
    search: MaskGridSearch | None,
    postprocessing: Postprocessing,
    settings: Evaluation,
) -> dict[str, Any]:
    selected: dict[str, Any] = {}
    configured = Postprocessing.configured(settings)
    for name, candidate in (("before", configured), ("after", postprocessing)):
        scores = candidate.probabilities(slices.probabilities)
        selected[name] = {
            "negative_log_likelihood": negative_log_likelihood(slices.labels, scores),
            "ece": expected_calibration_error(slices.labels, scores, settings.calibration_bins),
            "brier": brier_score(slices.labels, scores),
            "dice_per_patient": search.mean_dice(candidate) if search else None,
        }
    return selected
