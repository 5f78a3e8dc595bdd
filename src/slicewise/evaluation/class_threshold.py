"""Calibration and class threshold of a source, from the labels of its validation slices."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.domain.tables import describe_groups
from slicewise.evaluation.selection_gain import Bools, Indices, SelectionGain, Selector, held_out_values
from slicewise.evaluation.statistics.bootstrap import (
    MIN_PATIENTS,
    BootstrapSettings,
    Floats,
    estimate,
    estimate_mean,
    index_groups,
)
from slicewise.inference.calibration import NOT_CALIBRATED, Scaling, fit_scaling, log_likelihood
from slicewise.inference.postprocess import Postprocessing

CALIBRATION: Final = "calibration"
CLASS_THRESHOLD: Final = "class threshold"


@dataclass(frozen=True)
class SliceProbabilities:
    """Labels, raw probabilities and groups of the validation slices of one source."""

    labels: Floats
    probabilities: Floats
    groups: tuple[str, ...]
    is_pictures: bool
    """Whether each slice is a picture of its own."""

    @property
    def population(self) -> str:
        """The number of groups in words: patients, or families of near-identical pictures."""
        return describe_groups(self.num_groups, pictures=self.is_pictures, subset="validation")

    @cached_property
    def owner(self) -> Indices:
        """[slice] index of its group."""
        return index_groups(self.groups)[1]

    @cached_property
    def num_groups(self) -> int:
        return len(set(self.groups))

    @cached_property
    def classes(self) -> NDArray[np.bool_]:
        """[group, 2]: whether the group has a slice without tumour, and one with."""
        result = np.zeros((self.num_groups, 2), np.bool_)
        result[self.owner, self.labels.astype(np.intp)] = True
        return result

    def mean_gain(self, measure: str, gains: Floats, bootstrap: BootstrapSettings) -> SelectionGain:
        """Return the mean gain over slices, resampled over groups."""
        mean = estimate_mean(gains, self.groups, bootstrap)
        return SelectionGain(measure, mean, bootstrap.confidence)

    def balanced_gain(self, added: Floats, bootstrap: BootstrapSettings) -> SelectionGain:
        """Return the gain in balanced accuracy; `added` [slice]: predicted class minus the default's."""
        tumour, healthy = self.labels == 1, self.labels == 0
        hits, alarms, ill, well = (
            np.bincount(self.owner, column) for column in (added * tumour, added * healthy, tumour, healthy)
        )

        def statistic(weights: Floats) -> Floats:
            with np.errstate(invalid="ignore"):  # a resample without one of the classes
                gain = weights @ hits / (weights @ ill) - weights @ alarms / (weights @ well)
                return np.asarray(gain / 2)

        gain = estimate(statistic, self.num_groups, bootstrap)
        return SelectionGain("balanced accuracy", gain, bootstrap.confidence)

    def held_out(self, choose: Selector) -> Floats:
        """Return the value [slice] of each slice under selections made without its group."""
        return held_out_values(self.owner, self.classes @ np.array([1, 2]), choose)


@dataclass(frozen=True)
class ClassSelection:
    """What was selected, by which gains, and notes on what stays as configured."""

    postprocessing: Postprocessing
    gains: Mapping[str, SelectionGain]
    notes: tuple[str, ...]


def select_class_threshold(
    configured: Postprocessing, slices: SliceProbabilities, settings: Evaluation, bootstrap: BootstrapSettings
) -> ClassSelection:
    """Select the calibration and the class threshold, each where its gain on held-out groups is significant.

    A calibration changes no predicted class: the class threshold moves with the probabilities.
    """
    if np.ptp(slices.probabilities) == 0:  # classification was not trained
        return ClassSelection(configured, {}, ())
    without, with_tumour = slices.classes.sum(axis=0)
    if min(without, with_tumour) < MIN_PATIENTS:
        note = (
            f"{with_tumour} of {slices.population} have a tumour and {without} a slice without: fewer than "
            f"{MIN_PATIENTS} of one class: the class threshold stays, {NOT_CALIBRATED}"
        )
        return ClassSelection(configured, {}, (note,))
    scaling, calibration, raw = _select_calibration(slices, settings, bootstrap)
    threshold, gain, threshold_notes = _select_threshold(
        slices, configured.class_threshold, settings, bootstrap
    )
    postprocessing = replace(configured, scaling=scaling, class_threshold=float(scaling(threshold)))
    return ClassSelection(postprocessing, {**calibration, **gain}, (*raw, *threshold_notes))


def _select_calibration(
    slices: SliceProbabilities, settings: Evaluation, bootstrap: BootstrapSettings
) -> tuple[Scaling, dict[str, SelectionGain], tuple[str, ...]]:
    if settings.calibrate == "none":
        return Scaling(), {}, (f"evaluation.calibrate=none: {NOT_CALIBRATED}",)
    labels, scores, shifted = slices.labels, slices.probabilities, settings.calibrate == "platt"

    def choose(rows: Bools) -> Floats:
        return log_likelihood(labels, fit_scaling(labels[rows], scores[rows], shifted=shifted)(scores))

    gains = slices.held_out(choose) - log_likelihood(labels, scores)
    gain = slices.mean_gain("log-likelihood", gains, bootstrap)
    if not gain.is_significant:
        note = f"calibration has no significant gain ({gain.describe()}): {NOT_CALIBRATED}"
        return Scaling(), {CALIBRATION: gain}, (note,)
    return fit_scaling(labels, scores, shifted=shifted), {CALIBRATION: gain}, ()


def _select_threshold(
    slices: SliceProbabilities, configured: float, settings: Evaluation, bootstrap: BootstrapSettings
) -> tuple[float, dict[str, SelectionGain], tuple[str, ...]]:
    """Return the threshold of the raw probability."""
    if settings.operating_point == "fixed":
        return configured, {}, ()
    labels, scores = slices.labels, slices.probabilities
    if settings.operating_point == "sensitivity":
        reached = _held_out_sensitivity(slices, settings.sensitivity_target, bootstrap)
        return sensitivity_threshold(labels, scores, settings.sensitivity_target), {}, (reached,)

    def choose(rows: Bools) -> Floats:
        return (scores >= youden_threshold(labels[rows], scores[rows])).astype(np.float64)

    default = (scores >= configured).astype(np.float64)
    added = slices.held_out(choose) - default
    gain = slices.balanced_gain(added, bootstrap)
    accuracy = float((added * np.where(labels == 1, 1, -1)).mean())
    threshold = youden_threshold(labels, scores)
    if gain.is_significant and accuracy >= 0:
        return threshold, {CLASS_THRESHOLD: gain}, ()
    why = "costs accuracy" if gain.is_significant else "has no significant gain"
    figures = f"{gain.describe()}; accuracy {accuracy:+.3f}"
    note = f"class threshold {threshold:.2f} {why} ({figures}): {configured:.3g} stays"
    return configured, {CLASS_THRESHOLD: gain}, (note,)


def _held_out_sensitivity(slices: SliceProbabilities, target: float, bootstrap: BootstrapSettings) -> str:
    """Return in words the sensitivity that a threshold for the target reaches on held-out groups."""
    labels, scores = slices.labels, slices.probabilities

    def choose(rows: Bools) -> Floats:
        return (scores >= sensitivity_threshold(labels[rows], scores[rows], target)).astype(np.float64)

    tumour = labels == 1
    result = estimate_mean(slices.held_out(choose)[tumour], np.asarray(slices.groups)[tumour], bootstrap)
    interval = ""
    if result.low is not None:
        interval = f", {bootstrap.confidence:.0%} interval {result.low:.3f} to {result.high:.3f}"
    return f"sensitivity {result.value:.3f} on held-out validation groups (target {target:g}{interval})"


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
