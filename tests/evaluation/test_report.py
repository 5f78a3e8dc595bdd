import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.held_out import HeldOutResult
from slicewise.evaluation.report import write_report
from slicewise.evaluation.summary import summarise
from slicewise.metrics.table import metrics_of


def numbers_in(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers_in(item)]
    return [number for item in value for number in numbers_in(item)] if isinstance(value, list) else [value]


@pytest.mark.usefixtures("drawn_figures")
def test_the_report_is_complete(tmp_path: Path, final: HeldOutResult) -> None:
    write_report(tmp_path, final, data_name="lgg", stage="joint", synthetic=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json", "report.txt", "slices.csv", "patients.csv",
        "confusion_matrix.png", "metric_distribution.png", "roc_curve.png", "reliability_diagram.png",
    }  # fmt: skip
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["synthetic"] is True
    assert metrics["sources"]["pictures"]["segmentation"] is None
    lgg = metrics["sources"]["lgg"]
    assert lgg["segmentation"]["dice_per_patient"]["num_patients"] == 4
    low, high = lgg["segmentation"]["dice_per_patient"]["interval"]
    assert low <= lgg["segmentation"]["dice_per_patient"]["value"] <= high
    assert sum(lgg["classification"]["confusion"].values()) == lgg["num_slices"]
    assert (
        metrics["decisions"]["lgg"]["temperature"]
        == final.selection.postprocessing("lgg").scaling.temperature
    )
    assert metrics["decisions"]["pictures"]["after"]["dice_per_patient"] is None
    bins = final.after.settings.calibration_bins
    assert metrics["decisions"]["lgg"]["after"]["ece_bins"] == bins
    assert f"calibration error, {bins} bins" in (tmp_path / "report.txt").read_text()


def test_metrics_are_plain_values(result: EvaluationResult) -> None:
    kinds = {type(value) for value in numbers_in(summarise(result))}
    assert kinds <= {int, float, str, bool, type(None)}


def test_pictures_of_one_family_are_one_patient_in_the_interval(
    results: Callable[..., EvaluationResult],
) -> None:
    """The right answers are two families and the wrong ones two more: nothing is certain."""
    result = results(skill=0.1)
    rows = tuple(
        replace(row, group=f"{row.right} {place % 2}") if row.source == "pictures" else row
        for place, row in enumerate(result.slices)
    )
    alone, family = (
        summarise(found)["sources"]["pictures"] for found in (result, replace(result, slices=rows))
    )
    before, after = alone["classification"]["accuracy"], family["classification"]["accuracy"]
    assert (before["num_patients"], after["num_patients"]) == (12, 4)
    assert after["value"] == before["value"]
    assert after["interval"] == [0, 1] != before["interval"]


def test_every_score_is_reported_per_patient_and_per_slice(result: EvaluationResult) -> None:
    found = summarise(result)["sources"]["lgg"]
    for name in (metric.name for metric in metrics_of("slice")):
        values = [row.scores[name] for row in result.patients if row.source == "lgg"]
        score = found["segmentation"][f"{name}_per_patient"]
        assert score["value"] == pytest.approx(np.mean([value for value in values if value is not None]))
        assert score["num_patients"] == sum(value is not None for value in values)
        assert f"{name}_per_slice" in found["segmentation"]
    errors = [row.scores["volume_error_ml"] or 0.0 for row in result.patients if row.source == "lgg"]
    value = found["segmentation"]["absolute_volume_error_ml_per_patient"]["value"]
    assert value == pytest.approx(np.mean(np.abs(errors)))
    assert {"roc_auc", "pr_auc", "f1", "mcc"} <= found["classification"].keys()


def test_one_class_only_is_null_and_not_nan(results: Callable[..., EvaluationResult]) -> None:
    metrics = summarise(results(num_patients=2, num_pictures=1))
    pictures = metrics["sources"]["pictures"]["classification"]
    assert pictures["roc_auc"]["value"] is None
    assert pictures["roc_auc"]["interval"] is None
    assert pictures["majority_accuracy"] == 1
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("synthetic", [True, False])
def test_the_first_line_says_what_kind_of_data_it_is(
    tmp_path: Path, final: HeldOutResult, synthetic: bool
) -> None:
    write_report(tmp_path, final, data_name="lgg", stage="joint", synthetic=synthetic)
    text = (tmp_path / "report.txt").read_text()
    assert ("synthetic data" in text.splitlines()[0]) == synthetic
    assert "always the majority class" in text
    assert "nan" not in text.lower()
    assert max(map(len, text.splitlines())) <= 110


def test_the_same_result_gives_the_same_bytes(tmp_path: Path, final: HeldOutResult) -> None:
    for name in ("one", "two"):
        write_report(tmp_path / name, final, data_name="lgg", stage="joint", synthetic=False)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
