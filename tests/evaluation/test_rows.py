import csv
from pathlib import Path

import pytest

from slicewise.core.keys import SliceKey
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.rows import PatientRow, SliceRow, by_source, population, to_csv, write_rows


def test_a_table_reads_back_by_key(tmp_path: Path, result: EvaluationResult) -> None:
    write_rows(tmp_path / "slices.csv", result.slices, SliceRow)
    with (tmp_path / "slices.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(result.slices)
    for row, original in zip(rows, result.slices, strict=True):
        key = SliceKey(row["source"], row["patient"], row["case"], int(row["index"]))
        assert key == original.key
        assert float(row["probability"]) == pytest.approx(original.probability, abs=1e-6)
        assert (row["dice"] == "") == (original.dice is None)


def test_truth_values_are_written_as_0_and_1(result: EvaluationResult) -> None:
    table = to_csv(result.patients, PatientRow)
    assert "True" not in table
    assert "None" not in table


def test_an_empty_table_keeps_its_header() -> None:
    assert to_csv([], PatientRow).startswith("source,patient,group,num_cases")


def test_sources_come_in_order(result: EvaluationResult) -> None:
    assert list(by_source(result.slices[::-1])) == ["lgg", "pictures"]


@pytest.mark.parametrize(
    ("patients", "slices", "text"),
    [(1, 8, "1 patient, 8 slices"), (4, 1200, "4 patients, 1,200 slices"), (12, 12, "12 pictures")],
)
def test_who_stands_behind_a_score(patients: int, slices: int, text: str) -> None:
    assert population(patients, slices) == text
