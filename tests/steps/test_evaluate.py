from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Pipeline, Reevaluated

from slicewise.cli.main import main
from slicewise.core.files import read_json
from slicewise.domain.tables import PatientRow, SliceRow, read_rows
from slicewise.inference.postprocess import tumour_probability


def test_the_test_patients_are_opened_once_after_the_choices_are_written(reevaluated: Reevaluated) -> None:
    assert reevaluated.openings == [("val", False), ("test", True)]


def test_what_was_chosen_on_validation_is_what_the_test_was_scored_with(reevaluated: Reevaluated) -> None:
    folder = reevaluated.pipeline.workspace / "results" / "multitask_evaluation"
    chosen, metrics = read_json(folder / "calibration.json"), read_json(folder / "metrics.json")
    split = read_json(reevaluated.pipeline.workspace / "data" / "split" / "split.json")
    assert chosen["configured"]["mask_threshold"] == 0.2
    for source, found in chosen["sources"].items():
        applied = metrics["decisions"][source]
        assert {name: applied[name] for name in found["decision"]} == found["decision"]
        assert found["validation"]["num_patients"] == len(split["sources"][source]["val"])
        raw = (found["decision"]["temperature"], found["decision"]["shift"]) == (1, 0)
        assert raw != found["gains"].get("calibration", {"significant": False})["significant"]
        assert raw == any("probabilities are raw, not calibrated" in note for note in found["notes"])


def test_with_few_validation_patients_nothing_is_chosen_and_the_record_says_so(trained: Pipeline) -> None:
    """Asked of the plain run, which keeps the default of evaluation.min_choice_patients."""
    found = read_json(trained.workspace / "results" / "multitask_evaluation" / "calibration.json")
    for choice in found["sources"].values():
        assert choice["decision"] == found["configured"]
        assert choice["validation"]["before"] == choice["validation"]["after"]
    notes = trained.record["steps"]["evaluate"]["notes"]
    assert sum("fewer than evaluation.min_choice_patients" in note for note in notes) == 2


def test_failures_are_written(trained: Pipeline) -> None:
    folder = trained.workspace / "results" / "failures"
    metrics = trained.record["steps"]["evaluate"]["metrics"]["failures"]
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        "report.txt", "slices.csv", "patients.csv", "traits.csv",
        "failures.png", "iou_of_failures.png", "confusion_matrices.png", "pictures",
    }  # fmt: skip
    assert len((folder / "slices.csv").read_text().splitlines()) == metrics["num_slices"] + 1
    assert metrics["limit"] == "Dice below 0.5"


def test_with_all_modalities_the_ablation_says_what_the_report_says(reevaluated: Reevaluated) -> None:
    folder = reevaluated.pipeline.workspace / "results"
    rows = read_json(folder / "ablations" / "modality_subsets.json")["rows"]
    rows = [row for row in rows if not row["minus"]]
    dice, auc = ([row for row in rows if row["score"] == score] for score in ("dice_per_patient", "roc_auc"))
    assert [row["variant"].count("+") + 1 for row in dice] == [4] + [3] * 4 + [2] * 6 + [1] * 4
    reported = read_json(folder / "multitask_evaluation" / "metrics.json")["sources"]["phantom"]
    assert dice[0]["value"] == pytest.approx(reported["segmentation"]["dice_per_patient"]["value"], abs=1e-6)
    assert auc[0]["value"] == pytest.approx(reported["classification"]["roc_auc"]["value"], abs=1e-6)
    assert len({row["value"] for row in auc}) > 1
    assert (folder / "ablations" / "modality_subsets.png").exists()


def test_the_ablation_is_made_on_request_alone(trained: Pipeline) -> None:
    assert not list((trained.workspace / "results" / "ablations").glob("*.png"))
    assert "modality_subsets" not in trained.record["steps"]["evaluate"]["metrics"]


def test_explanations_stand_beside_the_gradcam_pictures(trained: Pipeline) -> None:
    folder = trained.workspace / "visualizations" / "multitask_gradcam"
    found = trained.record["steps"]["evaluate"]["metrics"]["gradcam"]
    assert {"num_pictures", "sources", "note"} < set(found)
    assert set(found["methods"]) - {"random"} == {"gradcam", "layercam"}
    for method in ("gradcam", "layercam"):
        assert set(found["methods"][method]["sanity"]["likeness"]) == {"head", "decoder", "encoder"}
    assert read_json(folder / "explanations.json")["methods"] == found["methods"]
    assert (folder / "page_01.png").exists()


def test_prediction_says_of_a_test_patient_what_the_evaluation_said(
    reevaluated: Reevaluated, tmp_path: Path
) -> None:
    """By the same network, temperature and thresholds; the mask on the files' grid instead of the slices'."""
    root = reevaluated.pipeline.workspace
    folder = root / "results" / "multitask_evaluation"
    slices = [row for row in read_rows(folder / "slices.csv", SliceRow) if row.source == "phantom"]
    patients = {row.patient: row for row in read_rows(folder / "patients.csv", PatientRow)}
    name = slices[0].patient
    assert main(["predict", "--workspace", str(root), str(next(root.rglob(f"raw/**/{name}"))),
                 "--out", str(tmp_path), "runtime.device=cpu"]) == 0  # fmt: skip
    (case,) = read_json(tmp_path / "predictions.json")["cases"]
    probabilities = np.array([row.probability for row in slices if row.patient == name])
    assert case["tumour_probability"] == pytest.approx(tumour_probability(probabilities), abs=1e-3)
    chosen = read_json(folder / "calibration.json")["sources"]["phantom"]["decision"]
    assert case["class_threshold"] == chosen["class_threshold"]
    assert case["mask_threshold"] == chosen["mask_threshold"]
    predicted = patients[name].predicted_ml
    assert predicted is not None
    assert case["volume_ml"] == pytest.approx(predicted, rel=0.05, abs=1.0)
