"""A comparison as CSV, JSON, Markdown, text and figure; what a variant gained; mean and range over seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from slicewise.core.files import write_json, write_text
from slicewise.domain.report import Table
from slicewise.domain.tables import ComparisonRow, write_rows
from slicewise.metrics.table import METRICS, headline_metrics, score_key, score_label
from slicewise.plots.comparison import draw_comparison

_NO_INTERVAL = "no interval"
_COLUMNS = ("source", "score", "variant", "value", "interval", "p", "patients/families", "note")


def write_comparison(
    folder: Path,
    stem: str,
    rows: Sequence[ComparisonRow],
    title: str,
    *,
    synthetic: bool,
    **content: Any,
) -> None:
    """Write the rows as CSV, JSON (with `content` beside them), Markdown and PNG into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / f"{stem}.csv", rows, ComparisonRow)
    tree = {**content, "synthetic": synthetic, "rows": [asdict(row) for row in rows]}
    write_json(folder / f"{stem}.json", tree)
    write_text(folder / f"{stem}.md", to_markdown(rows, title, synthetic=synthetic))
    draw_comparison(folder / f"{stem}.png", rows, title, synthetic=synthetic)


def to_cells(rows: Sequence[ComparisonRow]) -> list[tuple[str, ...]]:
    """Return the rows as text, a cell per column; several seeds are told apart by the variant's name."""
    several = len({row.seed for row in rows}) > 1
    cells: list[tuple[str, ...]] = []
    for row in rows:
        p_value = "–" if row.p_value is None else "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}"
        name = f"{row.name}, seed {row.seed}" if several else row.name
        notes = (verdict(row), *row.note.split("; "), row.condition)
        note = "; ".join(part for part in notes if part and not part.startswith(_NO_INTERVAL))
        numbers = (row.value_text, row.interval_text, p_value, str(row.num_patients or "–"))
        cells.append((row.source, score_label(row.score), name, *numbers, note))
    return cells


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


def to_table(rows: Sequence[ComparisonRow]) -> Table:
    return Table(_COLUMNS, to_cells(rows))


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
    method = (
        "Intervals: bootstrap over patients, pairs kept; p: Wilcoxon's signed-rank test, from six pairs on."
    )
    return " ".join([method, *(f"{reason.capitalize()}." for reason in sorted(reasons))])


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
        known = [row.value for row in own if row.value is not None]
        spread = {"mean": float(np.mean(known)), "min": min(known), "max": max(known)} if known else None
        not_worse = sum(value * _direction(score) >= 0 for value in known) if known and minus else None
        summaries.append(
            {
                "variant": variant,
                "minus": minus,
                "source": source,
                "score": score,
                "num_seeds": len(own),
                "value": spread,
                "num_not_worse": not_worse,
            }
        )
    return summaries
