"""Selection of calibration, thresholds and post-processing on the validation patients, per source.

One pass over the validation cases. Each selection must gain significantly on validation groups that it was
not made on (`selection_gain`), or the configured default stays and a note says so. With too few validation
groups all defaults stay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np

from slicewise.config.schema import Evaluation
from slicewise.domain.tables import plural
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.mask_threshold import MaskGridSearch
from slicewise.evaluation.slice_probabilities import SliceProbabilities, concatenate_slices, included_slices
from slicewise.evaluation.statistics import (
    MIN_PATIENTS,
    Bools,
    BootstrapSettings,
    Floats,
    SelectionGain,
    estimate_mean,
)
from slicewise.inference.calibration import (
    NOT_CALIBRATED,
    Scaling,
    brier_score,
    expected_calibration_error,
    fit_scaling,
    log_likelihood,
    negative_log_likelihood,
)
from slicewise.inference.postprocess import MaskRule, Postprocessing

CALIBRATION: Final = "calibration"
CLASS_THRESHOLD: Final = "class threshold"
MASKS: Final = "masks"
_EXCLUSIVE: Final = (
    "classes that exclude each other have no mask threshold: the most probable one is predicted; the "
    "configured post-processing stays"
)
Gains = dict[str, SelectionGain]
Notes = tuple[str, ...]


@dataclass(frozen=True)
class SourceSelection:
    """What was selected for one source, by which gains, and notes on what stays as configured."""

    postprocessing: Postprocessing
    gains: Mapping[str, SelectionGain] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    validation: Mapping[str, Any] = field(default_factory=dict)
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
    """Select calibration, thresholds and post-processing per source on validation cases, read one by one."""
    bootstrap = BootstrapSettings(settings.bootstrap_samples, settings.confidence, seed)
    slices: dict[str, list[SliceProbabilities]] = {}
    searches: dict[str, dict[str, MaskGridSearch]] = {}
    exclusive: set[str] = set()
    for case in cases:
        if case.keys:
            source = case.keys[0].source
            slices.setdefault(source, []).append(included_slices(case))
            if case.has_mask and case.classes.exclusive:
                exclusive.add(source)
            elif case.has_mask:
                names = enumerate(case.classes.names)
                new = {name: MaskGridSearch(settings, number) for number, name in names}
                for search in searches.setdefault(source, new).values():
                    search.add(case)
    selected = {
        source: _select_for_source(concatenate_slices(parts), searches.get(source, {}), settings, bootstrap)
        for source, parts in sorted(slices.items())
    }
    for source in exclusive:
        notes = (*selected[source].notes, _EXCLUSIVE)
        selected[source] = replace(selected[source], notes=notes)
    return ThresholdSelection(selected, Postprocessing.configured(settings))


def _select_for_source(
    slices: SliceProbabilities,
    searches: Mapping[str, MaskGridSearch],
    settings: Evaluation,
    bootstrap: BootstrapSettings,
) -> SourceSelection:
    """Select for one source; `searches` are those of the masks of each class, none without masks."""
    configured = Postprocessing.configured(settings)
    if slices.num_groups < settings.min_choice_patients:
        few = (
            f"{slices.population}, fewer than evaluation.min_choice_patients "
            f"({settings.min_choice_patients}): the configured thresholds stay"
        )
        few += f", {NOT_CALIBRATED}" if slices.is_classified else ""
        selected = SourceSelection(configured, notes=(few,))
    else:
        selected = select_class_threshold(configured, slices, settings, bootstrap)
        if searches:
            selected = _select_masks(selected, searches, bootstrap)
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
            "dice_per_patient": _mean_dice(candidate, searches),
        }
    return replace(selected, validation=validation)


def _mean_dice(candidate: Postprocessing, searches: Mapping[str, MaskGridSearch]) -> float | None:
    """Return the mean Dice over patients, and over classes where there are several; None without masks."""
    rules = dict(candidate.by_class)
    own = {
        name: replace(candidate, **asdict(rules[name])) if name in rules else candidate for name in searches
    }
    return float(np.mean([searches[name].mean_dice(own[name]) for name in own])) if own else None


def _select_masks(
    selected: SourceSelection, searches: Mapping[str, MaskGridSearch], bootstrap: BootstrapSettings
) -> SourceSelection:
    """Add mask threshold and post-processing to the selection of the class threshold, those of each class."""
    num_groups = next(iter(searches.values())).num_groups
    if num_groups < MIN_PATIENTS:
        few = f"{plural(num_groups, 'validation patient')} with masks, fewer than {MIN_PATIENTS}"
        return replace(selected, notes=(*selected.notes, f"{few}: mask threshold and post-processing stay"))
    single = len(searches) == 1
    gains, notes, rules = {**selected.gains}, selected.notes, dict[str, MaskRule]()
    for name, search in searches.items():
        best, gain = search.best(selected.postprocessing, bootstrap)
        if gain is None:
            return selected
        of_class = "" if single else f"{name.replace('_', ' ')}: "
        gains[f"{of_class}{MASKS}"] = gain
        if gain.is_significant:
            rules[name] = MaskRule(best.mask_threshold, best.min_component, best.component_share, best.gate)
            continue
        note = f"{of_class}masks of another threshold or post-processing have no significant gain"
        notes = (*notes, f"{note} ({gain.describe()}): mask threshold and post-processing stay")
    chosen = selected.postprocessing
    if single and rules:
        chosen = replace(chosen, **asdict(next(iter(rules.values()))))
    elif rules:
        chosen = replace(chosen, by_class=tuple(rules.items()))
    return SourceSelection(chosen, gains, notes)


def select_class_threshold(
    configured: Postprocessing, slices: SliceProbabilities, settings: Evaluation, bootstrap: BootstrapSettings
) -> SourceSelection:
    """Select the calibration and the class threshold, each where its gain on held-out groups is significant.

    A calibration changes no predicted class: the class threshold moves with the probabilities.
    """
    if not slices.is_classified:
        return SourceSelection(configured)
    groups_of_class = slices.classes.sum(axis=0)
    if slices.has_several and groups_of_class.min() < MIN_PATIENTS:
        counts = ", ".join(map(str, groups_of_class))
        few = f"{slices.population}, {counts} by class: fewer than {MIN_PATIENTS} of one"
        note = f"{few}: {NOT_CALIBRATED}"
        return SourceSelection(configured, notes=(note,))
    without, with_tumour = groups_of_class[:2]
    if min(without, with_tumour) < MIN_PATIENTS:
        note = (
            f"{with_tumour} of {slices.population} have a tumour and {without} a slice without: fewer than "
            f"{MIN_PATIENTS} of one class: the class threshold stays, {NOT_CALIBRATED}"
        )
        return SourceSelection(configured, notes=(note,))
    scaling, calibration, raw = _select_calibration(slices, settings, bootstrap)
    if configured.class_threshold is None:
        return SourceSelection(replace(configured, scaling=scaling), calibration, raw)
    threshold, gain, stays = _select_threshold(slices, configured.class_threshold, settings, bootstrap)
    postprocessing = replace(configured, scaling=scaling, class_threshold=float(scaling(threshold)))
    return SourceSelection(postprocessing, calibration | gain, raw + stays)


def _select_calibration(
    slices: SliceProbabilities, settings: Evaluation, bootstrap: BootstrapSettings
) -> tuple[Scaling, Gains, Notes]:
    if settings.calibrate == "none":
        return Scaling(), {}, (f"evaluation.calibrate=none: {NOT_CALIBRATED}",)
    labels, scores, shifted = slices.labels, slices.probabilities, settings.calibrate == "platt"

    def choose(rows: Bools) -> Floats:
        return log_likelihood(labels, fit_scaling(labels[rows], scores[rows], shifted=shifted)(scores))

    gains = slices.held_out(choose) - log_likelihood(labels, scores)
    gain = slices.mean_gain("log-likelihood", gains, bootstrap)
    if gain.is_significant:
        return fit_scaling(labels, scores, shifted=shifted), {CALIBRATION: gain}, ()
    note = f"calibration has no significant gain ({gain.describe()}): {NOT_CALIBRATED}"
    return Scaling(), {CALIBRATION: gain}, (note,)


def _select_threshold(
    slices: SliceProbabilities, configured: float, settings: Evaluation, bootstrap: BootstrapSettings
) -> tuple[float, Gains, Notes]:
    """Return the threshold of the raw probability."""
    labels, scores = slices.labels, slices.probabilities
    if settings.operating_point == "fixed":
        return configured, {}, ()
    if settings.operating_point == "sensitivity":
        target, tumour = settings.sensitivity_target, labels == 1
        called = slices.held_out_classes(partial(sensitivity_threshold, target=target))
        reached = estimate_mean(called[tumour], np.asarray(slices.groups)[tumour], bootstrap)
        facts = f"target {target:g}"
        if reached.low is not None:
            facts += f", {bootstrap.confidence:.0%} interval {reached.low:.3f} to {reached.high:.3f}"
        note = f"sensitivity {reached.value:.3f} on held-out validation groups ({facts})"
        return sensitivity_threshold(labels, scores, target), {}, (note,)
    added = slices.held_out_classes(youden_threshold) - (scores >= configured)
    gain = slices.balanced_gain(added, bootstrap)
    accuracy = float((added * np.where(labels == 1, 1, -1)).mean())
    threshold = youden_threshold(labels, scores)
    if gain.is_significant and accuracy >= 0:
        return threshold, {CLASS_THRESHOLD: gain}, ()
    why = "costs accuracy" if gain.is_significant else "has no significant gain"
    figures = f"{gain.describe()}; accuracy {accuracy:+.3f}"
    note = f"class threshold {threshold:.2f} {why} ({figures}): {configured:.3g} stays"
    return configured, {CLASS_THRESHOLD: gain}, (note,)


def youden_threshold(labels: Floats, scores: Floats) -> float:
    """Return the threshold with the largest expected sensitivity + specificity - 1 (Youden 1950).

    Expected under Platt's line through the logits, it is largest where the probability of tumour equals the
    share of tumour slices. The empirical maximum of few slices varies far more. Both classes must occur.
    """
    line, share = fit_scaling(labels, scores, shifted=True), labels.mean()
    logit = (np.log(share / (1 - share)) - line.shift) * line.temperature
    return float(1 / (1 + np.exp(-logit)))


def sensitivity_threshold(labels: Floats, scores: Floats, target: float) -> float:
    """Return the highest threshold that at least the `target` share of the tumour slices reaches.

    It lies halfway between two neighbouring probabilities, or is 0.
    """
    distinct = np.unique(scores)
    thresholds = np.concatenate([[0.0], (distinct[1:] + distinct[:-1]) / 2])
    tumour = np.sort(scores[labels == 1])
    # By rank: a table of thresholds by slices would take gigabytes with tens of thousands of slices.
    called = (len(tumour) - np.searchsorted(tumour, thresholds, side="left")) / len(tumour)
    return float(thresholds[called >= target].max())
