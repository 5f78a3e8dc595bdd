"""Finished evaluations read back from their tables, and compared on the test patients that they share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.files import read_json
from slicewise.domain.labels import TASKS
from slicewise.domain.tables import ComparisonRow, PatientRow, SliceRow, read_rows
from slicewise.evaluation.comparison import Variant, check_common, compare
from slicewise.evaluation.statistics import BootstrapSettings
from slicewise.metrics.table import Metric

_PLACES: Final = ("results/multitask_evaluation", "multitask_evaluation", ".")
_FILES: Final = ("metrics.json", "patients.csv", "slices.csv")


@dataclass(frozen=True)
class Run:
    """A finished evaluation: where it is, its metrics, and its tables under a name."""

    folder: Path
    metrics: Mapping[str, Any]
    variant: Variant


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


def read_run(path: Path, name: str, seed: int = 0) -> Run:
    """Return a finished evaluation.

    Raises:
        UsageError: there is none at `path`.
        WorkspaceError: a table is damaged or was written by an older version.
    """
    folder = find_tables(path)
    metrics = read_json(folder / "metrics.json")
    patients = read_rows(folder / "patients.csv", PatientRow)
    slices = read_rows(folder / "slices.csv", SliceRow)
    absent, decisions = {*TASKS} - {*metrics.get("tasks", TASKS)}, metrics.get("decisions", {})
    return Run(folder, metrics, Variant(name, slices, patients, absent, seed, decisions))


def compare_runs(
    runs: Sequence[Run], metrics: Sequence[Metric] | None = None
) -> tuple[list[ComparisonRow], list[str]]:
    """Compare runs on the test patients that all of them have; return what was not the same in words, too.

    Raises:
        UsageError: two have no test patient in common.
        WorkspaceError: the settings of the intervals are missing in the first run.
    """
    variants = [run.variant for run in runs]
    check_common(variants)
    try:
        intervals = runs[0].metrics["intervals"]
        bootstrap = BootstrapSettings(intervals["samples"], intervals["confidence"], intervals["seed"])
    except (KeyError, TypeError) as error:
        raise WorkspaceError(f"{runs[0].folder}/metrics.json is damaged; run evaluate again") from error
    common = set.intersection(*(_patients(variant) for variant in variants))
    on_common = [
        replace(
            variant,
            slices=[row for row in variant.slices if (row.source, row.patient) in common],
            patients=[row for row in variant.patients if (row.source, row.patient) in common],
        )
        for variant in variants
    ]
    return compare(on_common, bootstrap, metrics), list(_notes(variants))


def _notes(variants: Sequence[Variant]) -> Iterator[str]:
    """Yield what differs between each run and the first, a sentence each."""
    first = variants[0]
    patients = _patients(first)
    labels = {row.key: row.label for row in first.slices}
    for task in sorted(first.absent):
        yield f"{first.name} has no {task}: not compared"
    for other in variants[1:]:
        theirs = _patients(other)
        for name, own, more in ((first.name, patients, theirs), (other.name, theirs, patients)):
            if num_left_out := len(own - more):
                yield f"{num_left_out} of the {len(own)} test patients of {name} are not in the other"
        for task in sorted(other.absent):
            yield f"{other.name} has no {task}: not compared"
        others = {row.key: row.label for row in other.slices}
        if any(labels[key] != others[key] for key in labels.keys() & others.keys()):
            yield "some slices have another label in the other run; they are left out of the classification"
        owners = {(key.source, key.patient) for key in labels.keys() ^ others.keys()}
        if changed := len(owners & patients & theirs):
            yield f"{changed} common patients have other slices in the other run"


def _patients(variant: Variant) -> set[tuple[str, str]]:
    return {(row.source, row.patient) for row in variant.patients}
