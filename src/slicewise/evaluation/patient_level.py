"""Classification of whole patients: volumes by all their slices, pictures by their family.

Where every patient has a tumour, as in BraTS, every score is None and a note says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.tables import Estimate, PatientRow, plural
from slicewise.evaluation.statistics.bootstrap import BootstrapSettings, Floats, estimate
from slicewise.metrics.confusion import THRESHOLD_SCORES, average_precision, count_confusion, roc_auc

SCORES: Final = ("roc_auc", "pr_auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")


@dataclass(frozen=True)
class PatientPredictions:
    """Columns [P] over P patients or families of near-identical pictures."""

    labels: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    predicted: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Iterable[PatientRow]) -> "PatientPredictions":
        """Pool the rows of each group: a tumour if any row has one, and the highest probability."""
        groups: dict[tuple[str, str], list[PatientRow]] = {}
        for row in rows:
            groups.setdefault((row.source, row.group), []).append(row)
        table = [
            (
                float(any(row.num_tumour_slices for row in own)),
                max(row.tumour_probability for row in own),
                float(any(row.called for row in own)),
            )
            for _, own in sorted(groups.items())
        ]
        labels, probabilities, predicted = np.array(table, dtype=np.float64).reshape(-1, 3).T
        return cls(labels, probabilities, predicted)


def patient_classification(rows: Sequence[PatientRow], bootstrap: BootstrapSettings) -> dict[str, Any]:
    """Return the number of patients of each class of one source, and the scores of their classification."""
    whole = PatientPredictions.of(rows)
    number, ill = len(whole.labels), int(whole.labels.sum())
    summary: dict[str, Any] = {
        "num_patients": number,
        "num_with_tumour": ill,
        "num_without_tumour": number - ill,
        "num_called": int(whole.predicted.sum()),
    }
    if ill in (0, number):
        has = "has a tumour" if ill else "has none"
        note = f"each of {plural(number, 'patient')} {has}: there is nothing to tell apart"
        nothing = Estimate(None, None, None, number, note).to_json()
        return {**summary, **dict.fromkeys(SCORES, nothing)}
    return {
        **summary,
        **{name: estimate(partial(_score, name, whole), number, bootstrap).to_json() for name in SCORES},
    }


def _score(name: str, whole: PatientPredictions, weights: Floats) -> Floats:
    """Return a score by its name for weights [resample, patient]."""
    if name in THRESHOLD_SCORES:
        return THRESHOLD_SCORES[name](count_confusion(whole.labels, whole.predicted, weights))
    area = roc_auc if name == "roc_auc" else average_precision
    return area(whole.labels, whole.probabilities, weights)
