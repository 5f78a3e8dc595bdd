"""A metric that another package offers is in the tables, in metrics.json and in the reports."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.packages import Install

from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.evaluate import evaluate_slices
from slicewise.evaluation.held_out import HeldOutResult, evaluate_held_out
from slicewise.evaluation.report import source_scores, write_report
from slicewise.metrics.table import METRICS, Metric


@pytest.fixture
def installed(install: Install) -> None:
    install("metrics", "volumetric_similarity = metric:VOLUMETRIC_SIMILARITY")


@pytest.mark.usefixtures("installed")
def test_it_is_scored_pooled_and_reported(tmp_path: Path, case: CaseOutput, final: HeldOutResult) -> None:
    held_out = evaluate_held_out([case], final.selection, final.after.settings, seed=0)
    metrics = write_report(tmp_path, held_out, data_name="lgg", stage="joint", synthetic=True)
    for table, level in (("slices", "slice"), ("patients", "patient")):
        with (tmp_path / f"{table}.csv").open(newline="") as stream:
            values = [float(row["volumetric_similarity"] or "nan") for row in csv.DictReader(stream)]
        mean = sum(value for value in values if value == value) / sum(value == value for value in values)
        scores = json.loads((tmp_path / "metrics.json").read_text())["sources"]["lgg"]["segmentation"]
        assert scores[f"volumetric_similarity_per_{level}"]["value"] == pytest.approx(mean)
    assert "volumetric similarity per patient" in (tmp_path / "report.txt").read_text()
    assert "undefined where both masks are empty" in metrics["empty_reference_policy"]
    names = [row[0] for row in source_scores(metrics)[0].details.rows]
    assert "volumetric similarity per slice" in names


def test_without_the_package_it_is_not_there(case: CaseOutput, final: HeldOutResult) -> None:
    assert "volumetric_similarity" not in METRICS
    rows = evaluate_slices([case], final.after.settings, seed=0).slices
    assert "volumetric_similarity" not in rows[0].scores


@pytest.mark.parametrize("name", ["patient", "Dice!", "dice_per_patient"])
def test_a_name_that_cannot_be_a_column_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a metric"):
        Metric(name, "", "", "slice", "higher", np.zeros, "")
