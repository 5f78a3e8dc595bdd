"""Calibration and class threshold of a source, from the labels of its validation slices."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Evaluation
from slicewise.evaluation.bootstrap import (
    FEWEST,
    Estimate,
    Floats,
    Resampling,
    estimate,
    group_rows,
    mean_of_rows,
)
from slicewise.evaluation.calibration import RAW, Scaling, fit_scaling, log_likelihood
from slicewise.evaluation.decision import Decision
from slicewise.evaluation.held_out import Bools, Choose, Gain, Indices, held_out_values
from slicewise.evaluation.rows import resampled

CALIBRATION: Final = "calibration"
CLASS_THRESHOLD: Final = "class threshold"


@dataclass(frozen=True)
class Slices:
    """Labels, raw probabilities and groups of the validation slices of one source."""

    labels: Floats
    probabilities: Floats
    groups: tuple[str, ...]
    is_pictures: bool
    """Whether each slice is a picture of its own."""

    @property
    def population(self) -> str:
        """Say how many groups there are: patients, or families of near-identical pictures."""
        return resampled(self.num_groups, pictures=self.is_pictures, subset="validation")

    @cached_property
    def owner(self) -> Indices:
        """[slice] number of its group."""
        return group_rows(self.groups)[1]

    @cached_property
    def num_groups(self) -> int:
        return len(set(self.groups))

    @cached_property
    def classes(self) -> NDArray[np.bool_]:
        """[group, 2]: whether the group has a slice without tumour, and one with."""
        found = np.zeros((self.num_groups, 2), np.bool_)
        found[self.owner, self.labels.astype(np.intp)] = True
        return found

    def mean_gain(self, measure: str, gains: Floats, how: Resampling) -> Gain:
        """Return the mean over slices, resampled over groups."""
        return Gain(measure, estimate(mean_of_rows(gains, self.owner), self.num_groups, how), how.confidence)

    def balanced_gain(self, added: Floats, how: Resampling) -> Gain:
        """Return the gain in balanced accuracy of `added` [slice], calls of tumour more than by default."""
        tumour, healthy = self.labels == 1, self.labels == 0
        hits, alarms, ill, well = (
            np.bincount(self.owner, column) for column in (added * tumour, added * healthy, tumour, healthy)
        )

        def statistic(weights: Floats) -> Floats:
            with np.errstate(invalid="ignore"):  # a resample without one of the classes
                return np.asarray(
                    (weights @ hits / (weights @ ill) - weights @ alarms / (weights @ well)) / 2
                )

        return Gain("balanced accuracy", estimate(statistic, self.num_groups, how), how.confidence)

    def held_out(self, choose: Choose) -> Floats:
        """Return the value [slice] of each slice under choices made without its group."""
        return held_out_values(self.owner, self.classes @ np.array([1, 2]), choose)


@dataclass(frozen=True)
class ClassChoice:
    """What was chosen, the gains it was chosen by, and why the rest stays as configured."""

    decision: Decision
    gains: Mapping[str, Gain]
    notes: tuple[str, ...]


def choose_class(configured: Decision, slices: Slices, settings: Evaluation, how: Resampling) -> ClassChoice:
    """Choose the calibration and the class threshold, each where its gain on held-out groups is significant.

    A calibration changes no call: the class threshold moves with the probabilities.
    """
    if np.ptp(slices.probabilities) == 0:  # classification was not trained
        return ClassChoice(configured, {}, ())
    if note := _rare_class(slices):
        return ClassChoice(configured, {}, (f"{note}: the class threshold stays, {RAW}",))
    scaling, calibration, raw = _calibrate(slices, settings, how)
    threshold, gain, kept = _threshold(slices, configured.class_threshold, settings, how)
    decision = replace(configured, scaling=scaling, class_threshold=float(scaling(threshold)))
    return ClassChoice(decision, {**calibration, **gain}, (*raw, *kept))


def _rare_class(slices: Slices) -> str:
    """Return which class is that of too few groups to resample them; empty where none is."""
    without, with_tumour = slices.classes.sum(axis=0)
    if min(without, with_tumour) >= FEWEST:
        return ""
    return (
        f"{with_tumour} of {slices.population} have a tumour and {without} a slice without: fewer than "
        f"{FEWEST} of one class"
    )


def _calibrate(
    slices: Slices, settings: Evaluation, how: Resampling
) -> tuple[Scaling, dict[str, Gain], tuple[str, ...]]:
    if settings.calibrate == "none":
        return Scaling(), {}, (f"evaluation.calibrate=none: {RAW}",)
    labels, scores, shifted = slices.labels, slices.probabilities, settings.calibrate == "platt"

    def choose(rows: Bools) -> Floats:
        return log_likelihood(labels, fit_scaling(labels[rows], scores[rows], shifted=shifted)(scores))

    gains = slices.held_out(choose) - log_likelihood(labels, scores)
    gain = slices.mean_gain("log-likelihood", gains, how)
    if not gain.is_significant:
        return (
            Scaling(),
            {CALIBRATION: gain},
            (f"calibration has no significant gain ({gain.describe()}): {RAW}",),
        )
    return fit_scaling(labels, scores, shifted=shifted), {CALIBRATION: gain}, ()


def _threshold(
    slices: Slices, configured: float, settings: Evaluation, how: Resampling
) -> tuple[float, dict[str, Gain], tuple[str, ...]]:
    """Return the threshold of the raw probability."""
    if settings.operating_point == "fixed":
        return configured, {}, ()
    labels, scores = slices.labels, slices.probabilities
    if settings.operating_point == "sensitivity":
        reached = _held_out_sensitivity(slices, settings.sensitivity_target, how)
        return sensitivity_threshold(labels, scores, settings.sensitivity_target), {}, (reached,)

    def choose(rows: Bools) -> Floats:
        return (scores >= youden_threshold(labels[rows], scores[rows])).astype(np.float64)

    default = (scores >= configured).astype(np.float64)
    added = slices.held_out(choose) - default
    gain = slices.balanced_gain(added, how)
    accuracy = float((added * np.where(labels == 1, 1, -1)).mean())
    threshold = youden_threshold(labels, scores)
    if gain.is_significant and accuracy >= 0:
        return threshold, {CLASS_THRESHOLD: gain}, ()
    why = "costs accuracy" if gain.is_significant else "has no significant gain"
    figures = f"{gain.describe()}; accuracy {accuracy:+.3f}"
    note = f"class threshold {threshold:.2f} {why} ({figures}): {configured:.3g} stays"
    return configured, {CLASS_THRESHOLD: gain}, (note,)


def _held_out_sensitivity(slices: Slices, target: float, how: Resampling) -> str:
    """Say which sensitivity a threshold for the target reaches on groups that it was not chosen on."""
    labels, scores = slices.labels, slices.probabilities

    def choose(rows: Bools) -> Floats:
        return (scores >= sensitivity_threshold(labels[rows], scores[rows], target)).astype(np.float64)

    tumour = labels == 1
    names, owner = group_rows(np.asarray(slices.groups)[tumour])
    found: Estimate = estimate(mean_of_rows(slices.held_out(choose)[tumour], owner), len(names), how)
    interval = (
        "" if found.low is None else f", {how.confidence:.0%} interval {found.low:.3f} to {found.high:.3f}"
    )
    return f"sensitivity {found.value:.3f} on held-out validation groups (target {target:g}{interval})"


def youden_threshold(labels: Floats, scores: Floats) -> float:
    """Return the threshold with the largest expected sensitivity + specificity - 1 (Youden 1950).

    Expected under Platt's line through the logits: there the largest lies where the probability of tumour
    equals the share of tumour. The largest index counted on three dozen slices varies far more.
    Both classes must be there.
    """
    line, share = fit_scaling(labels, scores, shifted=True), labels.mean()
    logit = (np.log(share / (1 - share)) - line.shift) * line.temperature
    return float(1 / (1 + np.exp(-logit)))


def sensitivity_threshold(labels: Floats, scores: Floats, target: float) -> float:
    """Return the highest threshold that calls at least the `target` share of the tumour slices.

    It lies between two neighbouring probabilities, or is 0.
    """
    distinct = np.unique(scores)
    thresholds = np.concatenate([[0.0], (distinct[1:] + distinct[:-1]) / 2])
    tumour = np.sort(scores[labels == 1])
    # By rank: a table of thresholds by slices would take gigabytes with tens of thousands of slices.
    called = (len(tumour) - np.searchsorted(tumour, thresholds, side="left")) / len(tumour)
    return float(thresholds[called >= target].max())
