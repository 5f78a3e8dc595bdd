from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.reporting.conftest import Made

from slicewise.core.files import read_json, write_json
from slicewise.domain.report import to_text
from slicewise.domain.tables import PatientRow, read_rows, write_rows
from slicewise.reporting.run import ResultFolders, RunInfo, uncalibrated_sources
from slicewise.reporting.sections import build_report


def render_text(run: RunInfo, folders: ResultFolders) -> str:
    return to_text(build_report(run, folders))


def text(made: Made) -> str:
    return (made.home / "report.txt").read_text(encoding="utf-8")


def test_the_same_facts_give_the_same_bytes(made: Made) -> None:
    assert render_text(made.run, made.folders) == text(made)


def test_it_says_what_the_page_says(made: Made) -> None:
    told = text(made)
    metrics = read_json(made.folders.evaluation / "metrics.json")
    for source, found in metrics["sources"].items():
        assert f"\n{source}: " in told
        for section in filter(None, (found["segmentation"], found["classification"])):
            for score in section.values():
                if isinstance(score, dict) and score.get("value") is not None:
                    assert f"{score['value']:.3f}" in told
    for row in read_rows(made.folders.evaluation / "patients.csv", PatientRow):
        assert row.patient in told
    for step in made.run.steps:
        assert step.fingerprint[:12] in told
    assert made.run.reproduce in told
    assert made.run.config_fingerprint in told


def test_scores_with_other_thresholds_than_those_of_the_stages_say_so(made: Made, tmp_path: Path) -> None:
    for name in ("patients.csv", "slices.csv", "calibration.json"):
        (tmp_path / name).write_bytes((made.folders.evaluation / name).read_bytes())
    metrics = read_json(made.folders.evaluation / "metrics.json")
    metrics["decisions"]["phantom_pictures"] |= {"class_threshold": 0.3124, "temperature": 1.5}
    write_json(tmp_path / "metrics.json", metrics)
    told = render_text(made.run, replace(made.folders, evaluation=tmp_path))
    assert "accuracy (class threshold 0.312, calibrated)" in told
    assert "class threshold 0.25" in told
    assert "Dice per patient (mask threshold 0.5)" in told
    (pictures,) = (part for part in told.split("\n\n") if part.startswith("Scores on"))
    assert pictures.partition("phantom_pictures:")[2].splitlines()[1].split()[-1] == "families"


def test_warnings_stand_before_any_figure(made: Made) -> None:
    told = " ".join(text(made).split())
    assert told.index("! Synthetic data.") < told.index("Dice per patient")
    assert "Only 1 test patient in phantom" in told
    assert "fewer than evaluation.min_choice_patients (8)" in told


def test_a_foreign_name_cannot_break_a_line(made: Made, tmp_path: Path) -> None:
    for path in made.folders.evaluation.iterdir():
        if path.suffix in (".csv", ".json"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = read_rows(tmp_path / "patients.csv", PatientRow)
    write_rows(tmp_path / "patients.csv", [replace(row, patient="a\n\x1b[31mb") for row in rows], PatientRow)
    told = render_text(made.run, replace(made.folders, evaluation=tmp_path))
    assert "a??[31mb" in told
    assert "\x1b" not in told


def test_an_absent_task_is_not_scored(made: Made, tmp_path: Path) -> None:
    for name in ("patients.csv", "slices.csv", "calibration.json"):
        (tmp_path / name).write_bytes((made.folders.evaluation / name).read_bytes())
    metrics = read_json(made.folders.evaluation / "metrics.json")
    metrics["tasks"] = ["segmentation"]
    for found in metrics["sources"].values():
        found["classification"] = found["patient_classification"] = None
    write_json(tmp_path / "metrics.json", metrics)
    told = render_text(made.run, replace(made.folders, evaluation=tmp_path))
    scores = told.partition("\nSummary\n")[2].partition("\nThresholds")[0]
    assert "balanced accuracy" not in scores


def test_raw_probabilities_are_named_where_there_are_any() -> None:
    decisions = {"a": {"temperature": 1.0, "shift": 0.0}, "b": {"temperature": 1.3, "shift": 0.0}}
    assert uncalibrated_sources({"decisions": decisions, "tasks": ["classification"]}) == ["a"]
    assert uncalibrated_sources({"decisions": decisions, "tasks": ["segmentation"]}) == []


@pytest.mark.parametrize(
    ("split", "origin"),
    [
        ({"file": "mine.csv", "folders": False}, "given by the user in split.file=mine.csv"),
        ({"file": None, "folders": True}, "given by the folders of the data"),
    ],
)
def test_a_split_of_the_user_is_said(made: Made, split: dict[str, Any], origin: str) -> None:
    config = {**made.run.config, "split": {**made.run.config["split"], **split}}
    assert f"Split, {origin}" in render_text(replace(made.run, config=config), made.folders)
