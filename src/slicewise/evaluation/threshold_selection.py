"""Selection of calibration, thresholds and post-processing on the validation patients, per source.

One pass over the validation cases. Each selection must gain significantly on validation groups that it was
not made on (`selection_gain`), or the configured default stays and a note says so. With too few validation
groups all defaults stay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from slicewise.config.schema import Evaluation
from slicewise.domain.tables import plural
from slicewise.evaluation.class_threshold import ClassSelection, SliceProbabilities, select_class_threshold
from slicewise.evaluation.mask_threshold import MaskGridSearch
from slicewise.evaluation.per_case import CaseOutput
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
class SourceSelection(ClassSelection):
    """What was selected for one source, by which gains, and notes on the defaults that stay."""

    validation: Mapping[str, Any]
    """Number of validation groups and slices, and the scores on them before and after the selection."""

    def to_json(self) -> dict[str, Any]:
        return {
            "decision": self.postprocessing.to_json(),
            "validation": dict(self.validation),
            "gains": {name: gain.to_json() for name, gain in self.gains.items()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class ThresholdSelection:
    """The finished selection of all sources, which opens the test cases."""

    sources: Mapping[str, SourceSelection]
    configured: Postprocessing

    def postprocessing(self, source: str) -> Postprocessing:
        """Return the selection for a source; the configured thresholds for one without validation cases."""
        return self.sources[source].postprocessing if source in self.sources else self.configured

    def to_json(self) -> dict[str, Any]:
        return {
            "chosen_on": "validation patients, or families of pictures",
            "configured": self.configured.to_json(),
            "sources": {source: selection.to_json() for source, selection in self.sources.items()},
        }


def select_thresholds(cases: Iterable[CaseOutput], settings: Evaluation, seed: int = 0) -> ThresholdSelection:
    """Select calibration, thresholds and post-processing per source.

    Args:
        cases: the validation cases, consumed one by one.
        settings: what to select, and the defaults.
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
    selected = {
        source: _select_for_source(concatenate_slices(parts), searches.get(source), settings, bootstrap)
        for source, parts in sorted(slices.items())
    }
    return ThresholdSelection(selected, Postprocessing.configured(settings))


def included_slices(case: CaseOutput) -> SliceProbabilities:
    """Return the included slices of a case.

    Excluded slices have probability 0: a single one with a tumour would flatten the whole calibration.
    """
    included = np.ones(len(case.keys), np.bool_) if case.included is None else case.included
    groups = (case.group,) * int(included.sum())
    labels, probabilities = (
        values[included].astype(np.float64) for values in (case.labels, case.class_probability)
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
    validation: dict[str, Any] = {
        "population": slices.population,
        "num_patients": slices.num_groups,
        "num_slices": len(slices.labels),
    }
    for name, candidate in (("before", configured), ("after", selected.postprocessing)):
        scores = candidate.probabilities(slices.probabilities)
        validation[name] = {
            "negative_log_likelihood": negative_log_likelihood(slices.labels, scores),
            "ece": expected_calibration_error(slices.labels, scores, settings.calibration_bins),
            "brier": brier_score(slices.labels, scores),
            "dice_per_patient": search.mean_dice(candidate) if search else None,
        }
    return SourceSelection(selected.postprocessing, selected.gains, selected.notes, validation)


def _select_masks(
    selected: ClassSelection, search: MaskGridSearch, bootstrap: BootstrapSettings
) -> ClassSelection:
    """Add mask threshold and post-processing to the selection of the class threshold."""
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
