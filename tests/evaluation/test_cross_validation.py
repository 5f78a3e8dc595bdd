from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from slicewise.core.errors import DataError
from slicewise.core.files import read_json
from slicewise.evaluation.cross_validation import fold_rows, pool, read_fold, write_pooled
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.report import write_tables
from slicewise.evaluation.summary import summarise


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
        write_tables(folder, own, {"synthetic": True, **summarise(own)})
        folders.append(folder)
    return folders


def test_the_folds_together_are_the_whole(result: EvaluationResult, folders: list[Path]) -> None:
    folds = [read_fold(folder, number) for number, folder in enumerate(folders, 1)]
    pooled = pool(folds, result.settings, result.seed)

    assert [row.key for row in pooled.slices] == [row.key for row in result.slices]
    assert [row.patient for row in pooled.patients] == [row.patient for row in result.patients]
    for ours, whole in zip(pooled.patients, result.patients, strict=True):
        assert ours.dice == pytest.approx(whole.dice, abs=1e-6)


def test_the_report_has_a_row_for_each_fold(
    result: EvaluationResult, folders: list[Path], tmp_path: Path
) -> None:
    folds = [read_fold(folder, number) for number, folder in enumerate(folders, 1)]
    pooled = pool(folds, result.settings, result.seed)
    metrics = write_pooled(tmp_path, folds, pooled, data_name="toy", synthetic=True)

    assert read_json(tmp_path / "metrics.json") == metrics
    assert [row["fold"] for row in metrics["folds"]] == sorted(row["fold"] for row in metrics["folds"])
    assert {row["fold"] for row in metrics["folds"]} == {1, 2}
    for source, found in metrics["sources"].items():
        own = [row for row in metrics["folds"] if row["source"] == source]
        assert sum(row["num_patients"] for row in own) == found["num_patients"]
    for found in metrics["calibration"].values():
        assert 0 <= found["ece"] <= 1
        assert 0 <= found["ece_by_chance"] <= 1
        assert found["ece_bins"] == 15
    assert "out of 2 folds" in (tmp_path / "report.txt").read_text()
    with Image.open(tmp_path / "folds.png") as picture:
        assert min(picture.size) > 300


def test_the_mean_of_a_fold_is_that_of_its_patients(folders: list[Path]) -> None:
    fold = read_fold(folders[0], 1)
    for row in fold_rows(fold):
        dice = [its.dice for its in fold.patients if its.source == row["source"] and its.dice is not None]
        assert row["dice_mean"] == (pytest.approx(sum(dice) / len(dice)) if dice else None)


def test_somebody_tested_twice_is_refused(result: EvaluationResult, folders: list[Path]) -> None:
    folds = [read_fold(folders[0], 1), read_fold(folders[0], 2)]
    with pytest.raises(DataError, match="is tested in fold 1 and in fold 2"):
        pool(folds, result.settings, result.seed)
