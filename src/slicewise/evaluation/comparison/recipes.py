"""Several recipes on the same test patients: the scores of each, and its difference to the first."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slicewise.core.files import write_json
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.scores import AUC, DICE, MEDIAN, NOT_TRAINED, StageRow
from slicewise.domain.tables import (
    Estimate,
    RecipeRow,
    describe_class_threshold,
    describe_mask_threshold,
    write_rows,
)
from slicewise.evaluation.comparison.runs import Comparison, RunTables, ScoreChange, compare_runs
from slicewise.plots.recipes import draw_recipes


@dataclass(frozen=True)
class RecipeRun:
    """The evaluation, with this fingerprint, of one recipe trained with one seed.

    `stages` are the scores of its final stage minus those of earlier ones.
    """

    recipe: str
    seed: int
    fingerprint: str | None
    tables: RunTables
    stages: tuple[StageRow, ...]


def tabulate(runs: Sequence[RecipeRun]) -> list[RecipeRow]:
    """Return the scores of every run, compared with the recipe of the first run.

    Raises:
        UsageError: two runs have no test patient in common.
    """
    base = {run.seed: run for run in runs if run.recipe == runs[0].recipe}
    metrics = [item for run in runs for item in run.tables.metrics["sources"].items()]
    with_masks = {source for source, scores in metrics if scores[SEGMENTATION]}
    rows: list[RecipeRow] = []
    for run in runs:
        first = base[run.seed]
        comparison = None if first is run else compare_runs(first.tables, run.tables)
        rows += _score_rows(run, comparison, with_masks)
        rows += [
            RecipeRow(
                run.recipe, run.seed, row.source, f"{row.score}: {row.phase}", row.value, row.low, row.high,
                row.num_patients, None, None, None, row.p_value, row.note or "", row.condition or "",
            )
            for row in run.stages
            if row.is_difference and row.score in (DICE, AUC)
        ]  # fmt: skip
    return rows


def across_seeds(rows: Sequence[RecipeRow]) -> list[dict[str, Any]]:
    """Return mean and range over the seeds of each recipe, source and score.

    `num_not_worse` counts the seeds whose difference, between stages or to the first recipe, is not negative.
    """
    groups: dict[tuple[str, str, str], list[RecipeRow]] = {}
    for row in rows:
        groups.setdefault((row.recipe, row.source, row.score), []).append(row)
    summaries = []
    for (recipe, source, score), own in groups.items():
        differences = [row.value if row.of_stages else row.difference for row in own]
        known = [value for value in differences if value is not None]
        summaries.append(
            {
                "recipe": recipe,
                "source": source,
                "score": score,
                "num_seeds": len(own),
                "value": _spread([row.value for row in own]),
                "difference": _spread([row.difference for row in own]),
                "num_not_worse": sum(value >= 0 for value in known) if known else None,
            }
        )
    return summaries


def write_recipes(
    folder: Path,
    runs: Sequence[RecipeRun],
    rows: Sequence[RecipeRow],
    header: Mapping[str, Any],
    *,
    synthetic: bool,
) -> None:
    """Write recipes.csv, recipes.json and recipes.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "recipes.csv", rows, RecipeRow)
    draw_recipes(folder / "recipes.png", rows, synthetic=synthetic)
    tree = {
        **header,
        "synthetic": synthetic,
        "compared_with": runs[0].recipe,
        "runs": [{"recipe": run.recipe, "seed": run.seed, "evaluate": run.fingerprint} for run in runs],
        "rows": [asdict(row) for row in rows],
        "across_seeds": across_seeds(rows),
    }
    write_json(folder / "recipes.json", tree)


def to_text(rows: Sequence[RecipeRow]) -> Iterator[str]:
    """Yield the lines of the table for a terminal."""
    yield f"{'recipe':<28}{'seed':>5}  {'source':<18}{'score':<38}{'value':>12}  to the first"
    for row in rows:
        value = row.note if row.note == NOT_TRAINED else _number(row.value, signed=row.of_stages)
        low, high = (row.low, row.high) if row.of_stages else (row.difference_low, row.difference_high)
        gain = "" if row.of_stages or row.difference is None else _number(row.difference, signed=True)
        interval = f" ({low:+.3f} to {high:+.3f})" if low is not None and high is not None else ""
        name = f"{row.recipe:<28}{row.seed:>5}  {row.source:<18}{row.score:<38}"
        yield f"{name}{value:>12}  {gain}{interval}".rstrip()
    conditions: dict[tuple[str, int, str], list[str]] = {}
    for row in rows:
        if row.score in (DICE, AUC) and row.condition:
            conditions.setdefault((row.recipe, row.seed, row.source), []).append(row.condition)
    for (recipe, seed, source), own in conditions.items():
        yield f"{recipe:<28}{seed:>5}  {source:<18}{', '.join(own)}"
    yield "intervals: bootstrap over patients, pairs kept; they do not cover another training (--seeds)"


def _score_rows(
    run: RecipeRun, comparison: Comparison | None, with_masks: Collection[str]
) -> Iterator[RecipeRow]:
    changes = {(change.source, change.score): change for change in comparison.changes} if comparison else {}
    for source, scores in run.tables.metrics["sources"].items():
        masks, classes = scores[SEGMENTATION], scores[CLASSIFICATION]
        if masks is not None:
            yield _row(run, source, DICE, masks[DICE], changes.get((source, "dice")))
            yield _row(run, source, MEDIAN, {**masks[DICE], "value": masks[DICE]["median"], "interval": None})
        elif source in with_masks:  # trained in another recipe
            yield _row(run, source, DICE, None)
        yield _row(run, source, AUC, classes[AUC] if classes else None, changes.get((source, AUC)))


def _row(
    run: RecipeRun,
    source: str,
    score: str,
    estimate: Mapping[str, Any] | None,
    change: ScoreChange | None = None,
) -> RecipeRow:
    """Return a row; without an estimate the task was not trained."""
    if estimate is None:
        nothing = (None, None, None, 0, None, None, None, None)
        return RecipeRow(run.recipe, run.seed, source, score, *nothing, note=NOT_TRAINED, condition="")
    condition = describe_class_threshold if score == AUC else describe_mask_threshold
    low, high = estimate["interval"] or (None, None)
    gain = change.difference.estimate if change else Estimate(None, None, None, 0)
    return RecipeRow(
        run.recipe, run.seed, source, score, estimate["value"], low, high, estimate["num_patients"],
        gain.value, gain.low, gain.high, change.difference.p_value if change else None,
        str(estimate.get("note") or ""),
        condition(run.tables.metrics["decisions"][source]),
    )  # fmt: skip


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": float(np.mean(known)), "min": min(known), "max": max(known)}


def _number(value: float | None, *, signed: bool) -> str:
    return "–" if value is None else f"{value:{'+' if signed else ''}.3f}"
