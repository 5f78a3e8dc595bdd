"""Whether a whole patient has a tumour at all: volumes by all their slices, pictures by their family.

The question is empty where every patient has one, as in BraTS: then every score is None and a note says so.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.tables import Estimate, PatientRow, plural
from slicewise.evaluation.statistics.bootstrap import BootstrapSettings, Floats, Statistic, estimate
from slicewise.metrics import confusion

SCORES: Final = ("roc_auc", "pr_auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")
_THRESHOLD_SCORES: Final[dict[str, Callable[[confusion.Confusion], Floats]]] = {
    "accuracy": confusion.accuracy,
    "balanced_accuracy": confusion.balanced_accuracy,
    "sensitivity": confusion.sensitivity,
    "specificity": confusion.specificity,
}


@dataclass(frozen=True)
class PatientPredictions:
    """Patients, or families of near-identical pictures, P of them: one number each in every column [P]."""

    labels: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    predicted: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Iterable[PatientRow]) -> "PatientPredictions":
        """Join what belongs to one group: it has a tumour if any of it has, and its highest probability."""
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
    """Return how well the patients of one source are told apart, and how many there are of each class."""
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
    return {**summary, **{name: _score(name, whole, bootstrap).to_json() for name in SCORES}}


def _score(name: str, whole: PatientPredictions, bootstrap: BootstrapSettings) -> Estimate:
    return estimate(_statistic(name, whole), len(whole.labels), bootstrap)


def _statistic(name: str, whole: PatientPredictions) -> Statistic:
    labels = whole.labels
    if name == "roc_auc":
        return lambda weights: confusion.roc_auc(labels, whole.probabilities, weights)
    if name == "pr_auc":
        return lambda weights: confusion.average_precision(labels, whole.probabilities, weights)
    score = _THRESHOLD_SCORES[name]
    return lambda weights: score(confusion.count_confusion(labels, whole.predicted, weights))
