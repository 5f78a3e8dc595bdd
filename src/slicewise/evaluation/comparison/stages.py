"""Scores of the training stages on the same test slices, with paired differences; their tables and figure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from slicewise.core.files import write_json, write_text
from slicewise.domain.scores import AUC, DICE, MINUS, StageRow, score_name
from slicewise.domain.tables import (
    PatientRow,
    SliceRow,
    by_source,
    describe_class_threshold,
    describe_counts,
    describe_mask_threshold,
    write_rows,
)
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.statistics.bootstrap import estimate_mean
from slicewise.evaluation.statistics.paired_difference import (
    Difference,
    paired_auc_difference,
    paired_difference,
)
from slicewise.evaluation.summary import bootstrap_settings, pooled_estimate
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.table import METRICS
from slicewise.plots.stages import draw_stages

NOT_TRAINED: Final = "not trained in this phase"
MAJORITY: Final = "majority class"


@dataclass(frozen=True)
class StageResult:
    """One stage's checkpoint on the test slices, and which heads the stage has trained."""

    name: str
    result: EvaluationResult
    trained_mask: bool
    """False where the decoder was not updated; its masks are then those of the stage before."""
    trained_class: bool

    def slices(self, source: str) -> list[SliceRow]:
        return [row for row in self.result.slices if row.source == source]

    def masked_patients(self, source: str) -> list[PatientRow]:
        return [row for row in self.result.patients if row.source == source and row.dice is not None]


Measure = Callable[[str, StageResult, StageResult | None], Difference]
"""(source, stage, other) -> the score of the stage or, with another stage, the difference to it."""


def compare_stages(stages: Sequence[StageResult]) -> list[StageRow]:
    """Return Dice per patient, AUC and accuracy per slice of each stage by source, then paired differences.

    The accuracy of always predicting the majority class stands beside that of the stages. A difference is a
    later stage minus the first that trained the same head, over the same resamples.

    Raises:
        ValueError: the stages were not evaluated on the same slices, or there are none.
    """
    if not stages:
        raise ValueError("there is no stage to compare")
    keys: list[Any] = [[row.key for row in stage.result.slices] for stage in stages]
    for stage, stage_keys in zip(stages, keys, strict=True):
        if stage_keys != keys[0]:
            raise ValueError(f"{stage.name} and {stages[0].name} were not evaluated on the same slices")
    configured = Postprocessing.configured(stages[0].result.settings).to_json()
    rows: list[StageRow] = []
    with_mask = [stage for stage in stages if stage.trained_mask]
    with_class = [stage for stage in stages if stage.trained_class]
    for source in by_source(stages[0].result.slices):
        if stages[0].masked_patients(source):
            condition = describe_mask_threshold(configured)
            rows += _score_rows(source, DICE, stages, with_mask, _dice, condition)
        rows += _score_rows(source, AUC, stages, with_class, _auc, "")
        rows.append(_majority_row(source, stages[0]))
        condition = describe_class_threshold(configured)
        rows += _score_rows(source, "accuracy", stages, with_class, _accuracy, condition)
    return rows


def write_stage_comparison(folder: Path, stages: Sequence[StageResult], *, synthetic: bool) -> list[StageRow]:
    """Write phase_comparison.csv, .json, .md and .png into `folder`; return the rows."""
    rows = compare_stages(stages)
    write_rows(folder / "phase_comparison.csv", rows, StageRow)
    tree = {"synthetic": synthetic, "rows": [asdict(row) for row in rows]}
    write_json(folder / "phase_comparison.json", tree)
    write_text(folder / "phase_comparison.md", to_markdown(rows, synthetic=synthetic))
    counts_text = {
        source: describe_counts(len({row.patient for row in slices}), len(slices))
        for source, slices in by_source(stages[0].result.slices).items()
    }
    draw_stages(folder / "phase_comparison.png", rows, counts_text, synthetic=synthetic)
    return rows


def to_markdown(rows: Sequence[StageRow], *, synthetic: bool) -> str:
    """Return the comparison as a Markdown table, one line per score and stage."""
    lines = [
        "# Training stages on the same test slices" + (" (synthetic data)" if synthetic else ""),
        "",
        "| source | score | stage | value | interval | p | patients, or families of pictures | note |",
        "|---|---|---|---:|---|---:|---:|---|",
    ]
    for row in rows:
        p_value = "–" if row.p_value is None else "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}"
        lines.append(
            f"| {row.source} | {score_name(row)} | {row.phase} | {row.value_text} | {row.interval_text} "
            f"| {p_value} | {row.num_patients or '–'} | {row.note} |"
        )
    lines += [
        "",
        "Intervals: patient bootstrap; differences are paired. p: Wilcoxon. Thresholds: as configured;",
        "those selected for the last stage suit no other.",
        "",
    ]
    return "\n".join(lines)


def _score_rows(
    source: str,
    score: str,
    stages: Sequence[StageResult],
    trained: Sequence[StageResult],
    measure: Measure,
    condition: str,
) -> list[StageRow]:
    """Return a row per stage, then one per difference to the first stage that trained the head."""
    num_slices = len(stages[0].slices(source))
    measured: list[tuple[str, Difference | None]] = [
        (stage.name, measure(source, stage, None) if stage in trained else None) for stage in stages
    ]
    measured += [
        (f"{later.name}{MINUS}{trained[0].name}", measure(source, later, trained[0])) for later in trained[1:]
    ]
    rows = []
    for name, difference in measured:
        if difference is None:
            rows.append(StageRow(source, score, name, None, None, None, 0, 0, None, NOT_TRAINED, condition))
            continue
        estimate = difference.estimate
        rows.append(
            StageRow(
                source, score, name, estimate.value, estimate.low, estimate.high, estimate.num_patients,
                num_slices, difference.p_value, estimate.note, condition,
            )
        )  # fmt: skip
    return rows


def _dice(source: str, stage: StageResult, other: StageResult | None) -> Difference:
    """Return the mean Dice over patients, or its paired difference to the other stage."""
    rows, bootstrap = stage.masked_patients(source), bootstrap_settings(stage.result)
    groups, values = [(row.source, row.group) for row in rows], [row.dice or 0.0 for row in rows]
    if other is None:
        return Difference(estimate_mean(values, groups, bootstrap), None)
    others = [row.dice or 0.0 for row in other.masked_patients(source)]
    return paired_difference(values, others, groups, bootstrap)


def _auc(source: str, stage: StageResult, other: StageResult | None) -> Difference:
    rows, bootstrap = stage.slices(source), bootstrap_settings(stage.result)
    if other is None:
        return Difference(pooled_estimate(METRICS["roc_auc"], rows, bootstrap), None)
    labels, groups = [row.label for row in rows], [(row.source, row.group) for row in rows]
    values, others = ([row.probability for row in part.slices(source)] for part in (stage, other))
    return paired_auc_difference(labels, values, others, groups, bootstrap)


def _accuracy(source: str, stage: StageResult, other: StageResult | None) -> Difference:
    rows = stage.slices(source)
    right = np.array([row.right for row in rows], np.float64)
    if other is not None:
        right -= [row.right for row in other.slices(source)]
    groups = [(row.source, row.group) for row in rows]
    return Difference(estimate_mean(right, groups, bootstrap_settings(stage.result)), None)


def _majority_row(source: str, stage: StageResult) -> StageRow:
    """Return the accuracy of always predicting the more frequent class, a baseline without an interval."""
    rows = stage.slices(source)
    share = sum(row.label for row in rows) / len(rows)
    note = f"always answering {'tumour' if share >= 0.5 else 'no tumour'}"
    num_groups = len({row.group for row in rows})  # as many as the intervals beside it resample
    return StageRow(
        source, "accuracy", MAJORITY, max(share, 1 - share), None, None, num_groups, len(rows), None, note, ""
    )
