from pathlib import Path

import numpy as np
import pytest

from slicewise.domain.labels import MODALITIES
from slicewise.domain.tables import ComparisonRow, read_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.modality_ablation import (
    list_subsets,
    mask_modalities,
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
    assert found[0] == tuple(map(bool, presence))
    assert [sum(given) for given in found] == sorted((sum(given) for given in found), reverse=True)


def test_slots_that_are_not_given_are_empty_and_the_others_as_they_were() -> None:
    images = np.random.default_rng(0).normal(size=(3, 4, 8, 8)).astype(np.float16)
    before = images.copy()
    kept = mask_modalities(images, (True, False, False, True))
    assert kept.dtype == np.float16
    assert np.array_equal(kept[:, [0, 3]], images[:, [0, 3]])
    assert not kept[:, 1:3].any()
    assert np.array_equal(images, before)


@pytest.mark.usefixtures("drawn_figures")
def test_table_json_and_figure_are_written(tmp_path: Path, result: EvaluationResult) -> None:
    found = write_modality_ablation(
        tmp_path, dict.fromkeys(list_subsets((1, 0, 1, 1)), result), MODALITIES, synthetic=True
    )
    assert next(iter(found["lgg"])) == "t1+t2+flair"
    assert len(found["lgg"]) == 7
    reported = summarise(result)["sources"]["lgg"]
    for scores in found["lgg"].values():
        assert scores["dice_per_patient"] == reported["segmentation"]["dice_per_patient"]["value"]
        assert scores["roc_auc"] == reported["classification"]["roc_auc"]["value"]
    rows = read_rows(tmp_path / "modality_subsets.csv", ComparisonRow)
    assert {row.value for row in rows if row.minus} == {0}
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".json", ".md", ".png"}
