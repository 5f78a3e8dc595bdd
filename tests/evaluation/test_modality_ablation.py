import json
from pathlib import Path

import numpy as np
import pytest

from slicewise.domain.tables import SubsetRow, read_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.modality_ablation import (
    list_subsets,
    mask_modalities,
    tabulate,
    write_modality_ablation,
)
from slicewise.evaluation.summary import summarise


@pytest.mark.parametrize(("presence", "number"), [((1, 0, 1, 1), 7), ((1, 1, 1, 1), 15), ((0, 0, 0, 1), 1)])
def test_every_subset_of_what_is_there_and_of_nothing_else(presence: tuple[int, ...], number: int) -> None:
    found = list_subsets(presence)
    assert len(set(found)) == len(found) == number
    assert all(any(given) for given in found)
    assert not any(
        is_given and not slot for given in found for is_given, slot in zip(given, presence, strict=True)
    )
    assert found[-1] == tuple(map(bool, presence))
    assert [sum(given) for given in found] == sorted(sum(given) for given in found)


def test_slots_that_are_not_given_are_empty_and_the_others_as_they_were() -> None:
    images = np.random.default_rng(0).normal(size=(3, 4, 8, 8)).astype(np.float16)
    before = images.copy()
    kept = mask_modalities(images, (True, False, False, True))
    assert kept.dtype == np.float16
    assert np.array_equal(kept[:, [0, 3]], images[:, [0, 3]])
    assert not kept[:, 1:3].any()
    assert np.array_equal(images, before)


def test_each_row_says_what_a_report_on_its_subset_would(result: EvaluationResult) -> None:
    rows = tabulate(dict.fromkeys(list_subsets((1, 0, 1, 1)), result))
    assert [row.source for row in rows] == ["lgg"] * 7 + ["pictures"] * 7
    reported = summarise(result)["sources"]["lgg"]
    for row in rows[:7]:
        dice, auc = reported["segmentation"]["dice_per_patient"], reported["classification"]["roc_auc"]
        assert [row.dice, row.dice_low, row.dice_high] == [dice["value"], *dice["interval"]]
        assert [row.roc_auc, row.roc_auc_low, row.roc_auc_high] == [auc["value"], *auc["interval"]]
        assert row.num_modalities == sum(row.given) == len(row.modalities.split("+"))
    assert rows[6].modalities == "t1+t2+flair"
    assert rows[7].dice is None


def test_table_json_and_figure_are_written(tmp_path: Path, result: EvaluationResult) -> None:
    rows = tabulate(dict.fromkeys(list_subsets((1, 1, 1, 1)), result))
    found = write_modality_ablation(tmp_path, rows, synthetic=True)
    assert len(found["lgg"]) == 15
    assert [row.modalities for row in read_rows(tmp_path / "modality_subsets.csv", SubsetRow)] == [
        row.modalities for row in rows
    ]
    written = json.loads((tmp_path / "modality_subsets.json").read_text())
    assert written["synthetic"] is True
    assert written["rows"][0]["flair"] is False
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "modality_subsets_lgg.png", "modality_subsets_pictures.png",
    }  # fmt: skip
