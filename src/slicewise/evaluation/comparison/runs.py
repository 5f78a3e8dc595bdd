"""Two finished evaluations, patient by patient: is one better than the other, or only other patients?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.files import read_json
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.tables import PatientRow, SliceRow, read_rows
from slicewise.evaluation.statistics.bootstrap import BootstrapSettings, estimate, index_groups
from slicewise.evaluation.statistics.paired_difference import Difference, paired_difference
from slicewise.metrics.confusion import roc_auc

_PLACES: Final = ("results/multitask_evaluation", "multitask_evaluation", ".")
_FILES: Final = ("metrics.json", "patients.csv", "slices.csv")

SCORES: Final[dict[str, Callable[[PatientRow], float | None]]] = {
    "dice": lambda row: row.dice,
    "iou": lambda row: row.iou,
    "nsd": lambda row: row.nsd,
    "boundary_f1": lambda row: row.boundary_f1,
    "hd95_mm": lambda row: row.hd95_mm,
    "absolute_relative_volume_error": lambda row: (
        None if row.relative_volume_error is None else abs(row.relative_volume_error)
    ),
    "slice_accuracy": lambda row: row.slice_accuracy,
}
"""Scores that each patient has for itself."""


@dataclass(frozen=True)
class RunTables:
    """What an evaluation left behind."""

    folder: Path
    metrics: dict[str, Any]
    patients: dict[tuple[str, str], PatientRow]
    slices: dict[Any, SliceRow]

    @property
    def not_trained(self) -> frozenset[str]:
        """Tasks that this network never learned."""
        return frozenset(self.metrics.get("not_trained", ()))


@dataclass(frozen=True)
class ScoreChange:
    """One score of one source: its mean in both runs over the patients that have it in both, B minus A."""

    source: str
    score: str
    first: float
    second: float
    difference: Difference
    left_out: int
    """Common patients for whom the score is undefined in one of the runs."""


@dataclass(frozen=True)
class Comparison:
    """What can be said of two runs. `notes` name everything that was not the same in both."""

    changes: tuple[ScoreChange, ...]
    notes: tuple[str, ...]


def find_tables(path: Path) -> Path:
    """Return the evaluation that a path means: a workspace, a results folder or a file in it.

    Raises:
        UsageError: there is no evaluation.
    """
    start = path.parent if path.is_file() else path
    for place in _PLACES:
        if all((start / place / name).is_file() for name in _FILES):
            return (start / place).resolve()
    raise UsageError(
        f"{path} holds no finished evaluation ({', '.join(_FILES)}); name a workspace in which "
        "`slicewise run --until evaluate` has ended, or its folder results/multitask_evaluation"
    )


def read_tables(path: Path) -> RunTables:
    """Read a finished evaluation.

    Raises:
        UsageError: there is none at `path`.
        WorkspaceError: a table is damaged or was written by an older version.
    """
    folder = find_tables(path)
    patients = read_rows(folder / "patients.csv", PatientRow)
    slices = read_rows(folder / "slices.csv", SliceRow)
    return RunTables(
        folder,
        read_json(folder / "metrics.json"),
        {(row.source, row.patient): row for row in patients},
        {row.key: row for row in slices},
    )


def compare_runs(first: RunTables, second: RunTables) -> Comparison:
    """Compare two runs on the patients that both have tested.

    Raises:
        UsageError: they have no test patient in common.
    """
    common = sorted(first.patients.keys() & second.patients.keys())
    if not common:
        raise UsageError(
            f"{first.folder} and {second.folder} have no test patient in common: nothing can be paired; "
            "compare runs with the same data and split.seed"
        )
    bootstrap = _resampling(first)
    missing = first.not_trained | second.not_trained
    changes: list[ScoreChange] = []
    for source in sorted({name for name, _ in common}):
        patients = [key for key in common if key[0] == source]
        scores = [score for score in SCORES if _task_of_score(score) not in missing]
        result = (_patient_change(first, second, patients, score, bootstrap) for score in scores)
        changes += [change for change in result if change is not None]
        changes += [] if CLASSIFICATION in missing else _auc_change(first, second, source, bootstrap)
    return Comparison(tuple(changes), tuple(_notes(first, second, len(common))))


def _task_of_score(score: str) -> str:
    return CLASSIFICATION if score == "slice_accuracy" else SEGMENTATION


def _patient_change(
    first: RunTables,
    second: RunTables,
    patients: Sequence[tuple[str, str]],
    score: str,
    bootstrap: BootstrapSettings,
) -> ScoreChange | None:
    read = SCORES[score]
    table = [(key, read(first.patients[key]), read(second.patients[key])) for key in patients]
    known = [(key, one, two) for key, one, two in table if one is not None and two is not None]
    if not known:
        return None
    before, after = [one for _, one, _ in known], [two for _, _, two in known]
    groups = [(key[0], first.patients[key].group) for key, _, _ in known]
    changed = sum(one is not None or two is not None for _, one, two in table) - len(known)
    difference = paired_difference(after, before, groups, bootstrap)
    return ScoreChange(
        patients[0][0], score, float(np.mean(before)), float(np.mean(after)), difference, changed
    )


def _auc_change(
    first: RunTables, second: RunTables, source: str, bootstrap: BootstrapSettings
) -> list[ScoreChange]:
    """Return the change of the area under the ROC curve of the common slices; none where it is undefined."""
    keys = sorted(key for key in first.slices.keys() & second.slices.keys() if key.source == source)
    rows = [(first.slices[key], second.slices[key]) for key in keys]
    rows = [(one, two) for one, two in rows if one.label == two.label]
    if len({one.label for one, _ in rows}) < 2:
        return []
    labels = [one.label for one, _ in rows]
    before, after = [one.probability for one, _ in rows], [two.probability for _, two in rows]
    names, owner = index_groups((one.source, one.group) for one, _ in rows)
    result = estimate(
        lambda weights: (
            roc_auc(labels, after, weights[:, owner]) - roc_auc(labels, before, weights[:, owner])
        ),
        len(names),
        bootstrap,
        width=len(rows),
    )
    one, two = float(roc_auc(labels, before)), float(roc_auc(labels, after))
    return [ScoreChange(source, "roc_auc", one, two, Difference(result, None), 0)]


def _notes(first: RunTables, second: RunTables, num_common: int) -> list[str]:
    notes = []
    for name, run in (("A", first), ("B", second)):
        others = len(run.patients) - num_common
        if others:
            notes.append(f"{others} of the {len(run.patients)} test patients of {name} are not in the other")
        notes += [f"{task} was not trained in {name}: not compared" for task in sorted(run.not_trained)]
    shared = first.slices.keys() & second.slices.keys()
    if any(first.slices[key].label != second.slices[key].label for key in shared):
        notes.append("some slices have another label in the other run; they are left out of the AUC")
    owners = {(key.source, key.patient) for key in first.slices.keys() ^ second.slices.keys()}
    moved = len(owners & first.patients.keys() & second.patients.keys())
    if moved:
        notes.append(f"{moved} common patients have other slices in the other run")
    return notes


def _resampling(run: RunTables) -> BootstrapSettings:
    try:
        bootstrap = run.metrics["intervals"]
        return BootstrapSettings(bootstrap["samples"], bootstrap["confidence"], bootstrap["seed"])
    except (KeyError, TypeError) as error:
        raise WorkspaceError(f"{run.folder}/metrics.json is damaged; run evaluate again") from error
