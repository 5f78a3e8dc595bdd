"""Scores of several variants on the same test patients, and their paired differences to the first variant."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from slicewise.core.errors import UsageError
from slicewise.core.files import write_json, write_text
from slicewise.domain.classes import TUMOUR_OR_NOT, Classes
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.report import Table
from slicewise.domain.tables import ComparisonRow, Estimate, PatientRow, SliceRow, write_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.statistics import BootstrapSettings, Floats, estimate_over_rows, paired_difference
from slicewise.evaluation.summary import (
    describe_threshold,
    mean_estimate,
    pooled_estimate,
    read_score,
    slice_predictions,
)
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.table import METRICS, Metric, headline_metrics, score_key, score_label
from slicewise.plots.comparison import draw_comparison

NOT_TRAINED: Final = "not trained"
MAJORITY: Final = "majority class"
_NO_INTERVAL = "no interval"
_COLUMNS = ("source", "score", "variant", "value", "median", "interval", "p", "patients/families", "note")


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

    def values(self, metric: Metric, source: str) -> list[float]:
        """Return the score of each patient of a source that has it; nothing for a pooled metric."""
        if metric.level == "pooled" or not self.has(metric):
            return []
        scores = (row.scores.get(metric.name) for row in self.of_source(source)[1])
        return [score for score in scores if score is not None]


def compare(
    variants: Sequence[Variant],
    bootstrap: BootstrapSettings,
    metrics: Sequence[Metric] | None = None,
    *,
    paired: bool = True,
) -> list[ComparisonRow]:
    """Return each score of each variant by source and, if `paired`, differences to the first that has it.

    Paired variants were evaluated on the same patients; a difference resamples pairs. `metrics` are the
    headline metrics if None.
    """
    rows: list[ComparisonRow] = []
    for source in sorted({row.source for variant in variants for row in variant.slices}):
        for metric in headline_metrics() if metrics is None else metrics:
            scored = [variant for variant in variants if variant.has(metric)]
            has_masks = any(variant.of_source(source)[1] for variant in scored)
            if not scored or (metric.level != "pooled" and not has_masks):  # pictures have no masks
                continue
            for variant in variants:
                estimate = _measure(metric, variant, source, bootstrap)
                rows.append(_row(metric, variant, source, estimate))
            for variant in scored[1:] if paired else ():
                estimate, p_value, note = _difference(metric, variant, scored[0], source, bootstrap)
                rows.append(_row(metric, variant, source, estimate, p_value, minus=scored[0].name, note=note))
    return rows


def majority_rows(variant: Variant, classes: Classes = TUMOUR_OR_NOT) -> Iterator[ComparisonRow]:
    """Yield for each source the accuracy of always predicting the most frequent class, without interval."""
    for source in sorted({row.source for row in variant.slices}):
        rows, _ = variant.of_source(source)
        counts = np.bincount([row.label for row in rows])
        most = int(len(counts) - 1 - counts[::-1].argmax())
        note = f"always predicting {classes.labels[most]}"
        num_groups = len({row.group for row in rows})  # as many as the intervals beside it resample
        yield ComparisonRow(
            source, "accuracy", MAJORITY, "", variant.seed, float(counts[most] / len(rows)), None, None,
            num_groups, len(rows), None, note, "",
        )  # fmt: skip


def _measure(metric: Metric, variant: Variant, source: str, bootstrap: BootstrapSettings) -> Estimate:
    slices, patients = variant.of_source(source)
    if not variant.has(metric):
        return Estimate(None, None, None, 0, NOT_TRAINED)
    if metric.level == "pooled":
        return pooled_estimate(metric, slices, bootstrap)
    return mean_estimate(patients, read_score(metric.name), bootstrap)


def _difference(
    metric: Metric, variant: Variant, base: Variant, source: str, bootstrap: BootstrapSettings
) -> tuple[Estimate, float | None, str]:
    """Return variant minus base over what both have, p, and how many patients have a score in one only."""
    (slices, patients), (base_slices, base_patients) = variant.of_source(source), base.of_source(source)
    if metric.level == "pooled":
        ours, theirs = ({row.key: row for row in rows} for rows in (slices, base_slices))
        keys = sorted(key for key in ours.keys() & theirs.keys() if ours[key].label == theirs[key].label)
        first, second = (slice_predictions([rows[key] for key in keys]) for rows in (ours, theirs))

        def gain(weights: Floats) -> Floats:
            return np.asarray(metric.of_predictions(first, weights) - metric.of_predictions(second, weights))

        groups = [(key.source, theirs[key].group) for key in keys]
        return estimate_over_rows(gain, groups, bootstrap), None, ""
    ours_by_patient, bases = ({row.patient: row for row in rows} for rows in (patients, base_patients))
    scores = {
        name: (ours_by_patient[name].scores.get(metric.name), bases[name].scores.get(metric.name))
        for name in sorted(ours_by_patient.keys() & bases.keys())
    }
    one_only = sum((value is None) != (other is None) for value, other in scores.values())
    note = f"{one_only} more in one of them only" if one_only else ""
    pairs = {name: (a, b) for name, (a, b) in scores.items() if a is not None and b is not None}
    if not pairs:
        return Estimate(None, None, None, 0, "no patient in common has a value"), None, note
    values, others = ([pair[place] for pair in pairs.values()] for place in (0, 1))
    groups = [(source, bases[name].group) for name in pairs]
    return *paired_difference(values, others, groups, bootstrap), note


def _row(
    metric: Metric,
    variant: Variant,
    source: str,
    estimate: Estimate,
    p_value: float | None = None,
    *,
    minus: str = "",
    note: str = "",
) -> ComparisonRow:
    condition, num_slices = "", 0
    if variant.has(metric):
        condition = describe_threshold(metric, variant.decisions.get(source))
        num_slices = len(variant.of_source(source)[0])
    values = [] if minus else variant.values(metric, source)
    return ComparisonRow(
        source, score_key(metric), variant.name, minus, variant.seed, estimate.value, estimate.low,
        estimate.high, estimate.num_patients, num_slices, p_value,
        "; ".join(filter(None, (estimate.note, note))), condition,
        float(np.median(values)) if values else None,
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


def write_comparison(
    folder: Path,
    stem: str,
    rows: Sequence[ComparisonRow],
    title: str,
    variants: Sequence[Variant],
    *,
    synthetic: bool,
    **content: Any,
) -> None:
    """Write the rows as CSV, JSON (with `content` beside them), Markdown and PNG into `folder`.

    The figure has a dot for each patient of the `variants`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / f"{stem}.csv", rows, ComparisonRow)
    tree = {**content, "synthetic": synthetic, "rows": [asdict(row) for row in rows]}
    write_json(folder / f"{stem}.json", tree)
    write_text(folder / f"{stem}.md", to_markdown(rows, title, synthetic=synthetic))
    sources = sorted({row.source for row in rows})
    scores = {
        (source, score_key(metric), variant.name, variant.seed): variant.values(metric, source)
        for source in sources
        for metric in headline_metrics()
        for variant in variants
    }
    draw_comparison(folder / f"{stem}.png", rows, title, scores, synthetic=synthetic)


def to_table(rows: Sequence[ComparisonRow]) -> Table:
    """Return the rows as text; the variant's name distinguishes several seeds."""
    several = len({row.seed for row in rows}) > 1
    cells = []
    for row in rows:
        p_value = "–" if row.p_value is None else "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}"
        name = f"{row.name}, seed {row.seed}" if several else row.name
        notes = (verdict(row), *row.note.split("; "), row.condition)
        note = "; ".join(part for part in notes if part and not part.startswith(_NO_INTERVAL))
        numbers = (
            *(row.value_text, row.median_text, row.interval_text, p_value),
            str(row.num_patients or "–"),
        )
        cells.append((row.source, score_label(row.score), name, *numbers, note))
    return Table(_COLUMNS, cells)


def is_zero(row: ComparisonRow) -> bool:
    """Whether a difference is shown as 0: the two variants have the same value on every patient."""
    shown = (row.value, row.low, row.high)
    return bool(row.minus) and row.value is not None and all(not round(part or 0.0, 3) for part in shown)


def verdict(row: ComparisonRow) -> str:
    """Return `better` or `worse` for a difference whose interval excludes 0, else nothing."""
    sign = _direction(row.score)
    if not row.minus or row.low is None or row.high is None or not sign or row.low <= 0 <= row.high:
        return ""
    return "better" if row.low * sign > 0 else "worse"


def _direction(score: str) -> int:
    """Return 1 where a higher score is better, -1 where a lower one is, 0 where neither is."""
    name = score.partition("_per_")[0]
    return {"higher": 1, "lower": -1, "zero": 0}[METRICS[name].better] if name in METRICS else 0


def to_text(rows: Sequence[ComparisonRow]) -> Iterator[str]:
    """Yield the lines of the table for a terminal."""
    yield from (line.rstrip() for line in to_table(rows).lines())
    yield describe_intervals(rows)


def to_markdown(rows: Sequence[ComparisonRow], title: str, *, synthetic: bool) -> str:
    """Return the comparison as a Markdown table, one line per score and variant."""
    heading = f"# {title}" + (" (synthetic data)" if synthetic else "")
    return f"{heading}\n\n{to_table(rows).to_markdown()}\n\n{describe_intervals(rows)}\n"


def describe_intervals(rows: Sequence[ComparisonRow]) -> str:
    """Return what the intervals and tests are, and each reason why one is missing once."""
    reasons = {part for row in rows for part in row.note.split("; ") if part.startswith(_NO_INTERVAL)}
    method = "bootstrap over patients, pairs kept; p: Wilcoxon's signed-rank test, from six pairs on"
    return " ".join(f"{part}." for part in (f"Intervals: {method}", *map(str.capitalize, sorted(reasons))))


def compute_gains(rows: Sequence[ComparisonRow], variant: str) -> dict[str, dict[str, Any]]:
    """Return by source and score what a variant gained over the first that was trained for the same task.

    Each has the value `before` and the difference `value` with its `interval`, null where there is none. The
    scores are the first headline metric of each task.
    """
    metrics = headline_metrics()
    firsts = [next(m for m in metrics if (m.level == "pooled") == pooled) for pooled in (False, True)]
    values = {(row.source, row.score, row.variant): row.value for row in rows if not row.minus}
    gains: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.variant == variant and row.minus and row.score in map(score_key, firsts):
            before = values[row.source, row.score, row.minus]
            interval = None if row.low is None else [row.low, row.high]
            gain = {"over": row.minus, "before": before, "value": row.value, "interval": interval}
            gains.setdefault(row.source, {})[row.score] = gain
    return gains


def gain_text(variant: str, gains: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what a variant gained in one source as a line; `gains` by score."""
    parts = []
    for score, gain in gains.items():
        text = "n/a" if gain["value"] is None else f"{gain['value']:+.3f}"
        low, high = gain["interval"] or (None, None)
        text += "" if low is None else f" ({low:+.3f} to {high:+.3f})"
        parts.append(f"{METRICS[score.partition('_per_')[0]].label} {text} over {gain['over']}")
    return f"{variant} gained {', '.join(parts)}"


def across_seeds(rows: Sequence[ComparisonRow]) -> list[dict[str, Any]]:
    """Return mean and range over the seeds of each score, and in how many a difference is not a loss."""
    groups: dict[tuple[str, str, str, str], list[ComparisonRow]] = {}
    for row in rows:
        groups.setdefault((row.variant, row.minus, row.source, row.score), []).append(row)
    summaries = []
    for (variant, minus, source, score), own in groups.items():
        summary: dict[str, Any] = {"variant": variant, "minus": minus, "source": source, "score": score}
        known = [row.value for row in own if row.value is not None]
        spread = {"mean": float(np.mean(known)), "min": min(known), "max": max(known)} if known else None
        not_worse = sum(value * _direction(score) >= 0 for value in known) if known and minus else None
        summaries.append(summary | {"num_seeds": len(own), "value": spread, "num_not_worse": not_worse})
    return summaries
