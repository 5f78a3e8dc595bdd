"""Names of scores in tables, and how they are printed."""

from typing import Final

DICE: Final = "dice_per_patient"
MEDIAN: Final = "dice_median"
AUC: Final = "roc_auc"
MINUS: Final = " - "
"""Between the names of two stages where a row is their difference."""
STAGE_DIFFERENCE: Final = f"joint{MINUS}"
"""Begins the name of a score that is the difference of two stages of one recipe."""
NOT_TRAINED: Final = "not trained"
SCORE_NAMES: Final = {
    "dice_per_patient": "Dice per patient",
    "roc_auc": "AUC per slice",
    "accuracy": "Accuracy per slice",
}
