import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.files import write_json
from slicewise.domain.tables import PatientRow, SliceRow, read_rows, write_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.runs import compare_runs, read_run
from slicewise.evaluation.summary import summarise

Results = Callable[..., EvaluationResult]


def write_run(folder: Path, result: EvaluationResult) -> Path:
    folder.mkdir(parents=True)
    write_rows(folder / "slices.csv", result.slices, SliceRow)
    write_rows(folder / "patients.csv", result.patients, PatientRow)
    write_json(folder / "metrics.json", summarise(result))
    return folder


def test_tables_come_back_as_they_were_written(tmp_path: Path, result: EvaluationResult) -> None:
    run = read_run(write_run(tmp_path / "run", result), "A")
    for ours, kind in ((run.variant.patients, PatientRow), (run.variant.slices, SliceRow)):
        write_rows(tmp_path / "again.csv", ours, kind)
        first = "patients.csv" if kind is PatientRow else "slices.csv"
        assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "run" / first).read_bytes()


def test_other_patients_are_left_out_and_named(tmp_path: Path, results: Results) -> None:
    few, many = (
        read_run(write_run(tmp_path / name, results(num_patients=number)), name)
        for name, number in (("A", 3), ("B", 5))
    )
    rows, notes = compare_runs([few, many])
    assert {row.num_patients for row in rows if row.source == "lgg"} == {3}
    assert notes == ["2 of the 17 test patients of B are not in the other"]


def test_a_task_that_one_run_lacks_is_named(tmp_path: Path, result: EvaluationResult) -> None:
    masks = replace(result, tasks=("segmentation",))
    runs = [
        read_run(write_run(tmp_path / name, tables), name) for name, tables in (("A", result), ("B", masks))
    ]
    rows, notes = compare_runs(runs)
    assert {row.value for row in rows if (row.score, row.variant) == ("roc_auc", "B")} == {None}
    assert notes == ["B has no classification: not compared"]


@pytest.mark.parametrize("inside", ["results/multitask_evaluation", "multitask_evaluation", "."])
def test_a_workspace_a_results_folder_and_a_file_mean_the_same(
    tmp_path: Path, result: EvaluationResult, inside: str
) -> None:
    (tmp_path / "root").mkdir()
    written = write_run(tmp_path / "written", result)
    folder = (tmp_path / "root" / inside).resolve()
    shutil.copytree(written, folder, dirs_exist_ok=True)
    assert read_run(tmp_path / "root", "A").folder == folder
    assert read_run(folder / "metrics.json", "A").folder == folder


def test_a_folder_without_an_evaluation_and_a_damaged_table_are_named(
    tmp_path: Path, result: EvaluationResult
) -> None:
    with pytest.raises(UsageError, match="holds no finished evaluation"):
        read_run(tmp_path, "A")
    folder = write_run(tmp_path / "run", result)
    (folder / "patients.csv").write_text("source,patient\nlgg,P1\n")
    with pytest.raises(WorkspaceError, match=r"patients\.csv.*other columns.*run evaluate again"):
        read_rows(folder / "patients.csv", PatientRow)
