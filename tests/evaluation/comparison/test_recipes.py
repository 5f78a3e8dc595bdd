from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures.cohorts import SETTINGS, make_case

from slicewise.core.errors import UsageError
from slicewise.domain.scores import StageRow
from slicewise.domain.tables import RecipeRow, read_rows
from slicewise.evaluation.comparison.recipes import RecipeRun, across_seeds, tabulate, to_text, write_recipes
from slicewise.evaluation.comparison.runs import RunTables
from slicewise.evaluation.evaluate import evaluate_slices
from slicewise.evaluation.summary import summarise
from slicewise.inference.calibration import Scaling
from slicewise.inference.postprocess import Postprocessing

CONFIGURED = Postprocessing.configured(SETTINGS)


def made(
    recipe: str,
    seed: int,
    skill: float,
    *not_trained: str,
    name: str = "patient",
    decision: Postprocessing = CONFIGURED,
) -> RecipeRun:
    """Return a run on the same eight patients, the better the higher the skill."""
    rng = np.random.default_rng(5)
    cases = [make_case(rng, "volumes", f"{name}{number}", skill=skill) for number in range(8)]
    result = replace(evaluate_slices(cases, SETTINGS, 0, surfaces=False), not_trained=not_trained)
    tables = RunTables(
        Path(recipe),
        {**summarise(result), "decisions": {"volumes": decision.to_json()}},
        {(row.source, row.patient): row for row in result.patients},
        {row.key: row for row in result.slices},
    )
    gain = StageRow(
        "volumes",
        "dice_per_patient",
        "joint - seg_warmup",
        seed - 0.5,
        None,
        None,
        8,
        64,
        0.5,
        "",
        "mask threshold 0.5",
    )
    other = replace(gain, phase="cls_head - seg_warmup")
    return RecipeRun(recipe, seed, "f" * 64, tables, (gain, other))


def of(rows: Any, recipe: str, seed: int, score: str) -> Any:
    (row,) = [row for row in rows if (row.recipe, row.seed, row.score) == (recipe, seed, score)]
    return row


def test_each_seed_is_paired_with_the_same_seed_of_the_first_recipe() -> None:
    runs = [made("good", 0, 1.0), made("good", 1, 0.9), made("bad", 0, 0.3), made("bad", 1, 0.2)]
    rows = tabulate(runs)
    for seed in (0, 1):
        first, other = (of(rows, name, seed, "dice_per_patient") for name in ("good", "bad"))
        assert first.difference is None
        assert other.difference == pytest.approx(other.value - first.value)
        assert other.difference_low <= other.difference <= other.difference_high
        assert other.p_value is not None
        assert of(rows, "bad", seed, "dice_median").value != other.value
    assert of(rows, "good", 1, "dice_per_patient: joint - seg_warmup").value == 0.5
    assert not any("cls_head - " in row.score for row in rows)


def test_seeds_are_summed_up_by_mean_range_and_how_many_are_not_worse() -> None:
    runs = [made("good", 0, 1.0), made("good", 1, 0.9), made("bad", 0, 0.3), made("bad", 1, 0.2)]
    found = {(one["recipe"], one["score"]): one for one in across_seeds(tabulate(runs))}
    stages = found["good", "dice_per_patient: joint - seg_warmup"]
    assert stages["value"] == {"mean": 0.0, "min": -0.5, "max": 0.5}
    assert (stages["num_seeds"], stages["num_not_worse"]) == (2, 1)
    assert found["bad", "dice_per_patient"]["num_not_worse"] == 0
    assert found["good", "dice_per_patient"]["num_not_worse"] is None
    assert found["good", "roc_auc"]["difference"] is None


def test_the_thresholds_of_each_recipe_are_named(tmp_path: Path) -> None:
    chosen = Postprocessing(Scaling(1.7, 0.3), 0.2, 0.35, min_component=9)
    runs = [made("first", 0, 1.0), made("second", 0, 0.3, decision=chosen)]
    rows = tabulate(runs)
    assert of(rows, "first", 0, "dice_per_patient").condition == "mask threshold 0.5"
    for score in ("dice_per_patient", "dice_median"):
        assert of(rows, "second", 0, score).condition == "mask threshold 0.35, parts from 9 voxels"
    assert of(rows, "second", 0, "roc_auc").condition == "class threshold 0.2, calibrated"
    assert of(rows, "second", 0, "dice_per_patient: joint - seg_warmup").condition == "mask threshold 0.5"
    told = [line.split(None, 3)[1:] for line in to_text(rows) if "class threshold" in line]
    assert told == [
        ["0", "volumes", "mask threshold 0.5, class threshold 0.5"],
        ["0", "volumes", "mask threshold 0.35, parts from 9 voxels, class threshold 0.2, calibrated"],
    ]
    write_recipes(tmp_path, runs, rows, {"command": "x"}, synthetic=True)
    assert read_rows(tmp_path / "recipes.csv", RecipeRow)[0].condition == "mask threshold 0.5"


def test_a_task_that_was_not_trained_has_words_and_no_number(tmp_path: Path) -> None:
    runs = [made("both", 0, 1.0), made("masks", 0, 1.0, "classification")]
    rows = tabulate(runs)
    row = of(rows, "masks", 0, "roc_auc")
    assert (row.value, row.difference, row.note) == (None, None, "not trained")
    assert any("not trained" in line for line in to_text(rows))
    write_recipes(tmp_path, runs, rows, {"command": "x"}, synthetic=True)
    assert {path.name for path in tmp_path.iterdir()} == {"recipes.csv", "recipes.json", "recipes.png"}


def test_recipes_on_other_patients_are_refused() -> None:
    with pytest.raises(UsageError, match="no test patient in common"):
        tabulate([made("one", 0, 1.0), made("two", 0, 1.0, name="stranger")])
