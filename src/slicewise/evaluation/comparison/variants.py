"""Scores of several variants on the same test patients, and their paired differences to the first variant."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np

from slicewise.core.errors import UsageError
from slicewise.domain.keys import SliceKey
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.tables import ComparisonRow, Estimate, PatientRow, SliceRow
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.statistics.bootstrap import BootstrapSettings, estimate_over_rows
from slicewise.evaluation.statistics.paired_difference import Difference, paired_difference
from slicewise.evaluation.summary import (
    describe_threshold,
    mean_estimate,
    pooled_estimate,
    read_score,
    slice_predictions,
)
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.table import Metric, headline_metrics, score_key

NOT_TRAINED: Final = "not trained"
MAJORITY: Final = "majority class"


@dataclass(frozen=True)
class Variant:
    """The tables of one evaluation under the name of what is compared."""

    name: str
    slices: Sequence[SliceRow]
    patients: Sequence[PatientRow]
    absent: Collection[str] = ()
    """Tasks that it does not have, or does not train"""
    seed: int = 0
    decisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Thresholds and post-processing by source, as in `metrics.json`"""

    @classmethod
    def configured(cls, name: str, result: EvaluationResult, absent: Collection[str] = ()) -> Self:
        """Return a result that has the configured thresholds in every source."""
        decision = Postprocessing.configured(result.settings).to_json()
        sources = {row.source for row in result.slices}
        decisions = dict.fromkeys(sources, decision)
        return cls(name, result.slices, result.patients, absent, result.seed, decisions)

    def has(self, metric: Metric) -> bool:
        return (CLASSIFICATION if metric.level == "pooled" else SEGMENTATION) not in self.absent

    def of_source(self, source: str) -> tuple[list[SliceRow], list[PatientRow]]:
        """Return the slices of a source, and its patients that have masks."""
        patients = [row for row in self.patients if row.source == source and row.dice is not None]
        return [row for row in self.slices if row.source == source], patients


def compare(
    variants: Sequence[Variant],
    bootstrap: BootstrapSettings,
    metrics: Sequence[Metric] | None = None,
    *,
    paired: bool = True,
) -> list[ComparisonRow]:
    """Return each score of each variant by source and, if `paired`, differences to the first that has it.

    Args:
        variants: at least one.
        bootstrap: how the intervals are drawn; a difference resamples pairs.
        metrics: the headline metrics if None.
        paired: whether the variants were evaluated on the same patients.

    Raises:
        UsageError: two variants have no test patient in common.
    """
    rows: list[ComparisonRow] = []
    for source in sorted({row.source for variant in variants for row in variant.slices}):
        for metric in headline_metrics() if metrics is None else metrics:
            scored = [variant for variant in variants if variant.has(metric)]
            if not scored or (
                metric.level != "pooled" and not any(variant.of_source(source)[1] for variant in scored)
            ):
                continue  # pictures have no masks
            for variant in variants:
                measured = _measure(metric, variant, source, bootstrap) if variant in scored else None
                rows.append(_row(metric, variant, source, measured))
            for variant in scored[1:] if paired else ():
                difference, note = _difference(metric, variant, scored[0], source, bootstrap)
                rows.append(_row(metric, variant, source, difference, minus=scored[0].name, note=note))
    return rows


def majority_rows(variant: Variant) -> Iterator[ComparisonRow]:
    """Yield for each source the accuracy of always predicting the more frequent class, without interval."""
    for source in sorted({row.source for row in variant.slices}):
        rows, _ = variant.of_source(source)
        share = sum(row.label for row in rows) / len(rows)
        note = f"always predicting {'tumour' if share >= 0.5 else 'no tumour'}"
        num_groups = len({row.group for row in rows})  # as many as the intervals beside it resample
        yield ComparisonRow(
            source, "accuracy", MAJORITY, "", variant.seed, max(share, 1 - share), None, None,
            num_groups, len(rows), None, note, "",
        )  # fmt: skip


def _measure(metric: Metric, variant: Variant, source: str, bootstrap: BootstrapSettings) -> Difference:
    slices, patients = variant.of_source(source)
    if metric.level == "pooled":
        return Difference(pooled_estimate(metric, slices, bootstrap), None)
    return Difference(mean_estimate(patients, read_score(metric.name), bootstrap), None)


def _difference(
    metric: Metric, variant: Variant, base: Variant, source: str, bootstrap: BootstrapSettings
) -> tuple[Difference, str]:
    """Return variant minus base over what both have, and how many patients have a score in one only."""
    (slices, patients), (base_slices, base_patients) = variant.of_source(source), base.of_source(source)
    if metric.level == "pooled":
        ours, theirs = ({row.key: row for row in rows} for rows in (slices, base_slices))
        keys: list[SliceKey] = sorted(
            key for key in ours.keys() & theirs.keys() if ours[key].label == theirs[key].label
        )
        first, second = (slice_predictions([rows[key] for key in keys]) for rows in (ours, theirs))
        groups = [(key.source, theirs[key].group) for key in keys]
        estimate = estimate_over_rows(
            lambda weights: np.asarray(metric.compute(first, weights) - metric.compute(second, weights)),
            groups,
            bootstrap,
        )
        return Difference(estimate, None), ""
    values, others = (
        {row.patient: row.scores.get(metric.name) for row in rows} for rows in (patients, base_patients)
    )
    group_of = {row.patient: (row.source, row.group) for row in base_patients}
    both = sorted(values.keys() & others.keys())
    pairs = {
        name: (a, b) for name in both if (a := values[name]) is not None and (b := others[name]) is not None
    }
    one_only = sum((values[name] is None) != (others[name] is None) for name in both)
    note = f"{one_only} more in one of them only" if one_only else ""
    if not pairs:
        return Difference(Estimate(None, None, None, 0, "no patient in common has a value"), None), note
    first_values, second_values = ([pair[place] for pair in pairs.values()] for place in (0, 1))
    return paired_difference(first_values, second_values, [group_of[name] for name in pairs], bootstrap), note


def _row(
    metric: Metric,
    variant: Variant,
    source: str,
    measured: Difference | None,
    *,
    minus: str = "",
    note: str = "",
) -> ComparisonRow:
    """Return a row; without a measure the task was not trained."""
    estimate = measured.estimate if measured else Estimate(None, None, None, 0, NOT_TRAINED)
    condition = describe_threshold(metric, variant.decisions.get(source)) if measured else ""
    return ComparisonRow(
        source, score_key(metric), variant.name, minus, variant.seed, estimate.value, estimate.low,
        estimate.high, estimate.num_patients, len(variant.of_source(source)[0]) if measured else 0,
        measured.p_value if measured else None, "; ".join(filter(None, (estimate.note, note))), condition,
    )  # fmt: skip


def check_common(variants: Sequence[Variant]) -> None:
    """Refuse variants that cannot be paired.

    Raises:
        UsageError: one has no test patient in common with the first.
    """
    first, *others = ({(row.source, row.patient) for row in variant.patients} for variant in variants)
    for variant, patients in zip(variants[1:], others, strict=True):
        if not first & patients:
            raise UsageError(
                f"{variants[0].name} and {variant.name} have no test patient in common: nothing can be "
                "paired; compare runs with the same data and split.seed"
            )
