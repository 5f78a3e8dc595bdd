"""Comparison of two finished evaluations, paired by patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.files import read_json
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.tables import PatientRow, SliceRow, read_rows
from slicewise.evaluation.statistics.bootstrap import BootstrapSettings
from slicewise.evaluation.statistics.paired_difference import (
    Difference,
    paired_auc_difference,
    paired_difference,
)
from slicewise.metrics.confusion import roc_auc
from slicewise.metrics.table import metrics_of

_PLACES: Final = ("results/multitask_evaluation", "multitask_evaluation", ".")
_FILES: Final = ("metrics.json", "patients.csv", "slices.csv")


@dataclass(frozen=True)
class RunTables:
    """The tables and metrics of a finished evaluation."""

    folder: Path
    metrics: dict[str, Any]
    patients: dict[tuple[str, str], PatientRow]
    slices: dict[Any, SliceRow]

    @property
    def not_trained(self) -> frozenset[str]:
        """Tasks that the model was not trained for."""
        return frozenset(self.metrics.get("not_trained", ()))


@dataclass(frozen=True)
class ScoreChange:
    """One score of one source: its means over the patients that have it in both runs, and B minus A."""

    source: str
    score: str
    first: float
    second: float
    difference: Difference
    left_out: int
    """Common patients for whom the score is undefined in one of the runs."""


@dataclass(frozen=True)
class Comparison:
    """Changes of the scores; `notes` name everything that was not the same in both runs."""

    changes: tuple[ScoreChange, ...]
    notes: tuple[str, ...]


def find_tables(path: Path) -> Path:
    """Return the folder of the evaluation in a workspace, a results folder, or beside a file of it.

    Raises:
        UsageError: there is no finished evaluation.
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
    """Return the tables of a finished evaluation.

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
    """Compare two runs on their common test patients.

    Raises:
        UsageError: they have no test patient in common.
        WorkspaceError: the settings of the intervals are missing in the first run.
    """
    common = sorted(first.patients.keys() & second.patients.keys())
    if not common:
        raise UsageError(
            f"{first.folder} and {second.folder} have no test patient in common: nothing can be paired; "
            "compare runs with the same data and split.seed"
        )
    try:
        intervals = first.metrics["intervals"]
        bootstrap = BootstrapSettings(intervals["samples"], intervals["confidence"], intervals["seed"])
    except (KeyError, TypeError) as error:
        raise WorkspaceError(f"{first.folder}/metrics.json is damaged; run evaluate again") from error
    missing = first.not_trained | second.not_trained
    changes: list[ScoreChange | None] = []
    for source in sorted({name for name, _ in common}):
        patients = [key for key in common if key[0] == source]
        changes += [
            _patient_change(first, second, patients, score, bootstrap)
            for score in (metric.name for metric in metrics_of("slice", "patient"))
            if SEGMENTATION not in missing
        ]
        if CLASSIFICATION not in missing:
            changes.append(_patient_change(first, second, patients, "slice_accuracy", bootstrap))
            changes.append(_auc_change(first, second, source, bootstrap))
    known = tuple(change for change in changes if change is not None)
    return Comparison(known, tuple(_notes(first, second, len(common))))


def _patient_change(
    first: RunTables,
    second: RunTables,
    patients: Sequence[tuple[str, str]],
    score: str,
    bootstrap: BootstrapSettings,
) -> ScoreChange | None:
    """Return the change of a score per patient; None where no patient has it in both runs."""

    def read(row: PatientRow) -> float | None:
        return row.slice_accuracy if score == "slice_accuracy" else row.scores.get(score)

    values = {key: (read(first.patients[key]), read(second.patients[key])) for key in patients}
    known = {key: (a, b) for key, (a, b) in values.items() if a is not None and b is not None}
    if not known:
        return None
    before, after = ([pair[run] for pair in known.values()] for run in (0, 1))
    groups = [(key[0], first.patients[key].group) for key in known]
    num_undefined = sum(pair != (None, None) for pair in values.values()) - len(known)
    difference = paired_difference(after, before, groups, bootstrap)
    return ScoreChange(
        patients[0][0], score, float(np.mean(before)), float(np.mean(after)), difference, num_undefined
    )


def _auc_change(
    first: RunTables, second: RunTables, source: str, bootstrap: BootstrapSettings
) -> ScoreChange | None:
    """Return the change of the ROC-AUC over the common slices with the same label; None with one class."""
    keys = sorted(key for key in first.slices.keys() & second.slices.keys() if key.source == source)
    keys = [key for key in keys if first.slices[key].label == second.slices[key].label]
    labels = [first.slices[key].label for key in keys]
    if len(set(labels)) < 2:
        return None
    before, after = ([run.slices[key].probability for key in keys] for run in (first, second))
    groups = [(key.source, first.slices[key].group) for key in keys]
    difference = paired_auc_difference(labels, after, before, groups, bootstrap)
    auc_before, auc_after = float(roc_auc(labels, before)), float(roc_auc(labels, after))
    return ScoreChange(source, "roc_auc", auc_before, auc_after, difference, 0)


def _notes(first: RunTables, second: RunTables, num_common: int) -> list[str]:
    """Return what differs between the runs, a sentence each."""
    notes = []
    for name, run in (("A", first), ("B", second)):
        if others := len(run.patients) - num_common:
            notes.append(f"{others} of the {len(run.patients)} test patients of {name} are not in the other")
        notes += [f"{task} was not trained in {name}: not compared" for task in sorted(run.not_trained)]
    shared = first.slices.keys() & second.slices.keys()
    if any(first.slices[key].label != second.slices[key].label for key in shared):
        notes.append("some slices have another label in the other run; they are left out of the AUC")
    owners = {(key.source, key.patient) for key in first.slices.keys() ^ second.slices.keys()}
    if changed := len(owners & first.patients.keys() & second.patients.keys()):
        notes.append(f"{changed} common patients have other slices in the other run")
    return notes
