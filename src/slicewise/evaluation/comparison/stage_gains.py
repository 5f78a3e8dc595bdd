"""What a stage gained over the stages before it. Imports nothing heavy: the closing screen shows it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from slicewise.domain.scores import MINUS

if TYPE_CHECKING:
    from slicewise.domain.scores import StageRow

GAIN_SCORES: Final = {"dice_per_patient": "Dice", "roc_auc": "ROC-AUC"}
"""The scores in which a later stage should gain, and their printed names."""


def compute_stage_gains(rows: "Sequence[StageRow]", stage: str) -> dict[str, dict[str, Any]]:
    """Return by source and score the gain of a stage over the first that trained the same task.

    Each has the value `before` and the difference `value` with its `interval`, null where there is none.
    """
    values = {(row.source, row.score, row.phase): row.value for row in rows}
    gains: dict[str, dict[str, Any]] = {}
    for row in rows:
        later, _, first = row.phase.partition(MINUS)
        if later == stage and first and row.score in GAIN_SCORES:
            before = values[row.source, row.score, first]
            interval = None if row.low is None else [row.low, row.high]
            gain = {"over": first, "before": before, "value": row.value, "interval": interval}
            gains.setdefault(row.source, {})[row.score] = gain
    return gains


def gain_text(stage: str, gains: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what a stage gained in one source as a line; `gains` by score."""
    parts = []
    for score, gain in gains.items():
        text = "n/a" if gain["value"] is None else f"{gain['value']:+.3f}"
        low, high = gain["interval"] or (None, None)
        text += "" if low is None else f" ({low:+.3f} to {high:+.3f})"
        parts.append(f"{GAIN_SCORES[score]} {text} over {gain['over']}")
    return f"{stage} gained {', '.join(parts)}"
