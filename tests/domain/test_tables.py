import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import (
    ComparisonRow,
    PatientRow,
    SliceRow,
    by_source,
    describe_class_threshold,
    describe_counts,
    describe_groups,
    describe_mask_threshold,
    read_rows,
    to_csv,
    write_rows,
)
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.inference.calibration import Scaling
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.confusion import roc_auc


def test_a_table_reads_back_by_key(tmp_path: Path, result: EvaluationResult) -> None:
    write_rows(tmp_path / "slices.csv", result.slices, SliceRow)
    with (tmp_path / "slices.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(result.slices)
    for row, original in zip(rows, result.slices, strict=True):
        key = SliceKey(row["source"], row["patient"], row["case"], int(row["index"]))
        assert key == original.key
        assert np.float32(row["probability"]) == np.float32(original.probability)
        assert (row["dice"] == "") == (original.dice is None)


def test_an_auc_from_the_table_is_that_of_the_evaluation(tmp_path: Path, result: EvaluationResult) -> None:
    """Of sure networks: with fixed decimals all these probabilities would become 0 or 1, and ties."""
    labels = [row.label for row in result.slices]
    steps = np.random.default_rng(0).permutation(len(labels)).astype(np.float32) + 1
    sure = np.where(steps % 2, 1 - steps * np.float32(2**-24), steps * np.float32(1e-12))
    rows = [replace(row, probability=float(one)) for row, one in zip(result.slices, sure, strict=True)]
    write_rows(tmp_path / "slices.csv", rows, SliceRow)
    again = [row.probability for row in read_rows(tmp_path / "slices.csv", SliceRow)]
    np.testing.assert_array_equal(np.array(again, np.float32), sure.astype(np.float32))
    assert roc_auc(labels, again) == roc_auc(labels, [row.probability for row in rows])


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
    assert describe_counts(patients, slices) == text


def test_who_is_resampled_is_named_by_what_it_is() -> None:
    assert describe_groups(16, pictures=False, subset="validation") == "16 validation patients"
    assert describe_groups(1, pictures=False) == "1 patient"
    assert describe_groups(16, pictures=True, subset="validation") == "16 families of validation pictures"
    assert describe_groups(1, pictures=True) == "1 family of pictures"


def test_the_conditions_of_a_score_are_those_of_the_decision() -> None:
    plain = Postprocessing(Scaling(), 0.5, 0.5)
    chosen = Postprocessing(Scaling(1.5, 0.2), 0.3124, 0.45, min_component=9, component_share=0.1, gate=True)
    assert describe_class_threshold(plain.to_json()) == "class threshold 0.5"
    assert describe_mask_threshold(plain.to_json()) == "mask threshold 0.5"
    assert describe_mask_threshold({**plain.to_json(), "mask_threshold": None}) == "most probable class"
    assert describe_class_threshold(chosen.to_json()) == "class threshold 0.312, calibrated"
    assert describe_mask_threshold(chosen.to_json()) == (
        "mask threshold 0.45, parts from 10% of the largest, parts from 9 voxels, none in slices not called "
        "tumour"
    )


def test_an_empty_text_is_read_back_as_one(tmp_path: Path) -> None:
    rows = [ComparisonRow("lgg", "roc_auc", "b", "", 0, 0.5, None, None, 4, 9, None, "", "")]
    write_rows(tmp_path / "stages.csv", rows, ComparisonRow)
    assert read_rows(tmp_path / "stages.csv", ComparisonRow) == rows
