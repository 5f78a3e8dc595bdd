"""Names of scores in tables, the row of one score of a training stage, and how they are printed."""

from dataclasses import dataclass
from typing import Final

DICE: Final = "dice_per_patient"
MEDIAN: Final = "dice_median"
AUC: Final = "roc_auc"
MINUS: Final = " - "
"""Between the names of two stages where a row is their difference."""
NOT_TRAINED: Final = "not trained"
SCORE_NAMES: Final = {
    "dice_per_patient": "Dice per patient",
    "roc_auc": "AUC per slice",
    "accuracy": "Accuracy per slice",
}


@dataclass(frozen=True, slots=True)
class StageRow:
    """One score of a training stage, or the difference of two; an untrained head has a note, no score."""

    source: str
    score: str
    phase: str
    value: float | None
    low: float | None
    high: float | None
    num_patients: int
    """Number of resampled units: patients, or families of pictures."""
    num_slices: int
    p_value: float | None
    """Of a difference in Dice: Wilcoxon's signed-rank test over patients."""
    note: str
    condition: str
    """The threshold behind a score that depends on one."""

    @property
    def is_difference(self) -> bool:
        return MINUS in self.phase

    @property
    def value_text(self) -> str:
        return "–" if self.value is None else f"{self.value:{'+' if self.is_difference else ''}.3f}"

    @property
    def interval_text(self) -> str:
        if self.low is None or self.high is None:
            return "–"
        sign = "+" if self.is_difference else ""
        return f"{self.low:{sign}.3f} to {self.high:{sign}.3f}"


def score_name(row: StageRow) -> str:
    """Return the name of a score with its threshold, which may differ from the one finally selected."""
    name = SCORE_NAMES.get(row.score, row.score)
    return f"{name} ({row.condition})" if row.condition else name
