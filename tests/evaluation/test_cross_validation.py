from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slicewise.config.schema import Evaluation
from slicewise.core.errors import DataError
from slicewise.core.files import read_json
from slicewise.domain.tables import ComparisonRow, SliceRow, read_rows
from slicewise.evaluation.cross_validation import (
    FoldPredictions,
    calibrate_across,
    pool_folds,
    write_pooled,
)
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.report import write_tables
from slicewise.evaluation.runs import read_run
from slicewise.evaluation.summary import summarise
from slicewise.inference.calibration import Scaling, calibration_metrics


def part(result: EvaluationResult, patients: set[str]) -> EvaluationResult:
    return replace(
        result,
        slices=tuple(row for row in result.slices if row.patient in patients),
        patients=tuple(row for row in result.patients if row.patient in patients),
    )


@pytest.fixture
def folders(result: EvaluationResult, tmp_path: Path) -> list[Path]:
    """The evaluation of two folds: every other patient in each."""
    names = sorted({row.patient for row in result.patients})
    folders = []
    for number, members in enumerate((set(names[::2]), set(names[1::2])), 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        own = part(result, members)
        raw = {source: {"temperature": 1.0, "shift": 0.0} for source in ("lgg", "pictures")}
        write_tables(folder, own, {"synthetic": True, **summarise(own), "decisions": raw})
        folders.append(folder)
    return folders


def test_the_folds_together_are_the_whole(result: EvaluationResult, folders: list[Path]) -> None:
    folds = [read_run(folder, f"fold {number}") for number, folder in enumerate(folders, 1)]
    pooled = pool_folds(folds, result.settings, result.seed)

    assert [row.key for row in pooled.slices] == [row.key for row in result.slices]
    assert [row.patient for row in pooled.patients] == [row.patient for row in result.patients]
    for ours, whole in zip(pooled.patients, result.patients, strict=True):
        assert ours.dice == pytest.approx(whole.dice, abs=1e-6)


@pytest.mark.usefixtures("drawn_figures")
def test_the_report_has_a_row_for_each_fold(
    result: EvaluationResult, folders: list[Path], tmp_path: Path
) -> None:
    folds = [read_run(folder, f"fold {number}") for number, folder in enumerate(folders, 1)]
    pooled = pool_folds(folds, result.settings, result.seed)
    metrics = write_pooled(tmp_path, folds, pooled, data_name="toy", stage="joint", synthetic=True)

    assert read_json(tmp_path / "metrics.json") == metrics
    rows = read_rows(tmp_path / "folds.csv", ComparisonRow)
    assert {row.variant for row in rows} == {"fold 1", "fold 2"}
    for source, found in metrics["sources"].items():
        own = [row for row in rows if (row.source, row.score) == (source, "accuracy")]
        assert sum(row.num_slices for row in own) == found["num_slices"]
    for found in metrics["calibration"].values():
        assert 0 <= found["ece"] <= 1
        assert 0 <= found["ece_by_chance"] <= 1
        assert found["ece_bins"] == 15
        assert (found["num_raw_folds"], found["across_folds"]) == (2, None)
    text = (tmp_path / "report.txt").read_text()
    assert "out of 2 folds" in text
    assert "in 2 folds probabilities are raw, not calibrated" in text
    assert "too few patients to calibrate across the folds" in text
    with Image.open(tmp_path / "folds.png") as picture:
        assert min(picture.size) > 300


def test_somebody_tested_twice_is_refused(result: EvaluationResult, folders: list[Path]) -> None:
    folds = [read_run(folders[0], "fold 1"), read_run(folders[0], "fold 2")]
    with pytest.raises(DataError, match="is tested in fold 1 and in fold 2"):
        pool_folds(folds, result.settings, result.seed)


def shifted_fold(number: int, num_patients: int, flip: bool = False) -> FoldPredictions:
    """Return a fold with 20 slices a patient, whose raw probabilities are calibrated but for a shift."""
    rng = np.random.default_rng(number)
    logits = 2.5 * rng.normal(size=20 * num_patients)
    labels = (rng.random(len(logits)) < 1 / (1 + np.exp(-logits))) != flip
    scores = 1 / (1 + np.exp(-(logits - 2)))
    empty: dict[str, Any] = dict.fromkeys(field.name for field in fields(SliceRow))
    rows = [
        SliceRow(
            **{
                **empty,
                "scores": {},
                "source": "lgg",
                "patient": f"{number}-{place // 20}",
                "group": f"{number}-{place // 20}",
                "label": int(label),
                "probability": float(score),
                "asked": True,
            }
        )
        for place, (label, score) in enumerate(zip(labels, scores, strict=True))
    ]
    return FoldPredictions(number, tuple(rows), Scaling())


def test_folds_calibrate_each_other(settings: Evaluation) -> None:
    folds = [shifted_fold(number, 6) for number in range(1, 5)]
    found = calibrate_across(folds, settings, 0)
    assert found is not None
    before = calibration_metrics([row for fold in folds for row in fold.rows], settings.calibration_bins)
    assert found["ece"] < 0.5 * before["ece"]
    assert found["brier"] < before["brier"]
    assert found["gain"]["significant"]
    assert all(1.2 < scaling["shift"] < 2.8 for scaling in found["scalings"].values())


def test_no_fold_has_a_part_in_its_own_calibration(settings: Evaluation) -> None:
    """With the labels of one fold turned round, its own scaling stays, and those of all others change."""
    folds = [shifted_fold(number, 6) for number in range(1, 5)]
    plain = calibrate_across(folds, settings, 0)
    turned = calibrate_across([shifted_fold(1, 6, flip=True), *folds[1:]], settings, 0)
    assert plain is not None
    assert turned is not None
    same = [plain["scalings"][fold] == turned["scalings"][fold] for fold in ("1", "2", "3", "4")]
    assert same == [True, False, False, False]


def test_what_a_fold_calibrated_itself_is_undone_first(settings: Evaluation) -> None:
    folds, own = [shifted_fold(number, 6) for number in range(1, 5)], Scaling(1.5, 0.7)
    done = [
        replace(
            fold,
            rows=tuple(replace(row, probability=float(own(row.probability))) for row in fold.rows),
            scaling=own,
        )
        for fold in folds
    ]
    plain, again = (calibrate_across(each, settings, 0) for each in (folds, done))
    assert plain is not None
    assert again is not None
    assert again["ece"] == pytest.approx(plain["ece"], abs=1e-6)
    assert again["scalings"]["1"] == pytest.approx(plain["scalings"]["1"], abs=1e-4)


def test_few_patients_calibrate_no_fold(settings: Evaluation) -> None:
    assert calibrate_across([shifted_fold(number, 1) for number in (1, 2, 3)], settings, 0) is None
    none = settings.model_copy(update={"calibrate": "none"})
    assert calibrate_across([shifted_fold(number, 6) for number in (1, 2)], none, 0) is None
