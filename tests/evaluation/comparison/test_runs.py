import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.files import write_json
from slicewise.domain.tables import PatientRow, SliceRow, read_rows, write_rows
from slicewise.evaluation.comparison.runs import ScoreChange, compare_runs, read_tables
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.summary import summarise

Results = Callable[..., EvaluationResult]


def write_run(folder: Path, result: EvaluationResult) -> Path:
    folder.mkdir(parents=True)
    write_rows(folder / "slices.csv", result.slices, SliceRow)
    write_rows(folder / "patients.csv", result.patients, PatientRow)
    write_json(folder / "metrics.json", summarise(result))
    return folder


def find(changes: tuple[ScoreChange, ...], source: str, score: str) -> ScoreChange:
    (change,) = [change for change in changes if (change.source, change.score) == (source, score)]
    return change


def test_tables_come_back_as_they_were_written(tmp_path: Path, result: EvaluationResult) -> None:
    run = read_tables(write_run(tmp_path / "run", result))
    for ours, kind in ((run.patients.values(), PatientRow), (run.slices.values(), SliceRow)):
        write_rows(tmp_path / "again.csv", list(ours), kind)
        first = "patients.csv" if kind is PatientRow else "slices.csv"
        assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "run" / first).read_bytes()


def test_the_better_run_is_better_patient_by_patient(tmp_path: Path, results: Results) -> None:
    poor, good = (
        read_tables(write_run(tmp_path / str(skill), results(num_patients=9, skill=skill)))
        for skill in (0.2, 0.9)
    )
    found = compare_runs(poor, good)
    assert found.notes == ()
    dice = find(found.changes, "lgg", "dice")
    assert dice.difference.estimate.value == pytest.approx(dice.second - dice.first)
    assert (dice.difference.estimate.low or 0) > 0
    assert (dice.difference.p_value or 1) < 0.05
    assert find(found.changes, "lgg", "roc_auc").difference.p_value is None
    assert {change.score for change in found.changes if change.source == "pictures"} == {
        "slice_accuracy",
        "roc_auc",
    }


def test_a_run_does_not_differ_from_itself(tmp_path: Path, result: EvaluationResult) -> None:
    run = read_tables(write_run(tmp_path / "run", result))
    for change in compare_runs(run, run).changes:
        estimate = change.difference.estimate
        assert (estimate.value, estimate.low, estimate.high, change.difference.p_value) == (0, 0, 0, None)


def test_other_patients_are_left_out_and_named(tmp_path: Path, results: Results) -> None:
    few, many = (
        read_tables(write_run(tmp_path / str(number), results(num_patients=number))) for number in (3, 5)
    )
    found = compare_runs(few, many)
    assert find(found.changes, "lgg", "dice").difference.estimate.num_patients == 3
    assert found.notes == ("2 of the 17 test patients of B are not in the other",)


def test_a_score_that_one_run_lacks_is_counted(tmp_path: Path, result: EvaluationResult) -> None:
    first, *others = result.patients
    missed = replace(result, patients=(replace(first, scores={**first.scores, "hd95_mm": None}), *others))
    runs = [read_tables(write_run(tmp_path / name, found)) for name, found in (("a", result), ("b", missed))]
    change = find(compare_runs(*runs).changes, "lgg", "hd95_mm")
    assert (change.difference.estimate.num_patients, change.left_out) == (3, 1)


def test_nothing_in_common_is_refused(tmp_path: Path, result: EvaluationResult) -> None:
    run = read_tables(write_run(tmp_path / "run", result))
    renamed = replace(run, patients={("brats", name): row for (_, name), row in run.patients.items()})
    with pytest.raises(UsageError, match="no test patient in common"):
        compare_runs(run, renamed)


@pytest.mark.parametrize("inside", ["results/multitask_evaluation", "multitask_evaluation", "."])
def test_a_workspace_a_results_folder_and_a_file_mean_the_same(
    tmp_path: Path, result: EvaluationResult, inside: str
) -> None:
    (tmp_path / "root").mkdir()
    written = write_run(tmp_path / "written", result)
    folder = (tmp_path / "root" / inside).resolve()
    shutil.copytree(written, folder, dirs_exist_ok=True)
    assert read_tables(tmp_path / "root").folder == folder
    assert read_tables(folder / "metrics.json").folder == folder


def test_a_folder_without_an_evaluation_and_a_damaged_table_are_named(
    tmp_path: Path, result: EvaluationResult
) -> None:
    with pytest.raises(UsageError, match="holds no finished evaluation"):
        read_tables(tmp_path)
    folder = write_run(tmp_path / "run", result)
    (folder / "patients.csv").write_text("source,patient\nlgg,P1\n")
    with pytest.raises(WorkspaceError, match=r"patients\.csv.*other columns.*run evaluate again"):
        read_rows(folder / "patients.csv", PatientRow)
