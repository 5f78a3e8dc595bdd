from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.tables import SliceRow, read_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.explain.explanation import (
    SaliencyRow,
    SliceExplanation,
    localization_scores,
    select_saliency_slices,
)
from slicewise.explain.report import write_gradcam

SIDE = 16


def square(low: int, high: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[low:high, low:high] = True
    return mask


def test_heat_is_judged_against_what_its_area_would_give() -> None:
    brain, tumour = square(2, 12), square(4, 8)
    saliency = np.where(tumour, 1.0, 0.0).astype(np.float32)
    assert localization_scores(saliency, brain, tumour) == (1, 16 / 100, True)
    share, by_area, _ = localization_scores(np.ones((SIDE, SIDE), np.float32), brain, tumour)
    assert share == by_area == 16 / 100


def test_heat_outside_the_brain_counts_for_nothing() -> None:
    saliency = np.zeros((SIDE, SIDE), np.float32)
    saliency[0, 0], saliency[5, 5] = 1.0, 0.2
    assert localization_scores(saliency, square(2, 12), square(4, 8)) == (1, 16 / 100, True)


def test_no_heat_is_no_share_and_no_hit() -> None:
    share, _, hit = localization_scores(np.zeros((SIDE, SIDE), np.float32), square(2, 12), square(4, 8))
    assert (share, hit) == (None, False)


def test_the_choice_is_mixed_and_repeats(results: Callable[..., EvaluationResult]) -> None:
    rows = results(num_patients=5, num_pictures=20, skill=0.1).slices
    keys = select_saliency_slices(rows, 16)
    assert keys == select_saliency_slices(rows[::-1], 16)
    assert len(set(keys)) == 16
    found = {row.key: row for row in rows}
    kinds = Counter((found[key].source, found[key].label, found[key].right) for key in keys)
    assert len(kinds) == len({(row.source, row.label, row.right) for row in rows})
    assert len({key.patient for key in keys if key.source == "lgg"}) == 5


def test_fewer_slices_than_asked_for_are_all_shown(result: EvaluationResult) -> None:
    assert sorted(select_saliency_slices(result.slices, 1000)) == [row.key for row in result.slices]
    assert select_saliency_slices([], 5) == []
    assert select_saliency_slices(result.slices, 0) == []


def test_pictures_and_table_are_written_and_summed_up(tmp_path: Path, result: EvaluationResult) -> None:
    tumour = next(row for row in result.slices if row.label and row.source == "lgg")
    picture = next(row for row in result.slices if row.source == "pictures")
    grey, saliency = np.full((SIDE, SIDE), 0.5, np.float32), square(4, 6).astype(np.float32)

    def explained(row: SliceRow, reference: NDArray[np.bool_] | None) -> SliceExplanation:
        return SliceExplanation(row, grey, square(2, 12), reference, {"gradcam": saliency}, {}, {})

    slices = [explained(tumour, square(4, 8)), explained(picture, None)]
    summary = write_gradcam(tmp_path, slices, synthetic=True)
    rows = read_rows(tmp_path / "gradcam.csv", SaliencyRow)
    names = sorted(path.name for path in tmp_path.iterdir())
    verdict = "right" if tumour.right else "wrong"
    assert names[0] == f"01_lgg_{tumour.patient}_{tumour.index:03d}_tumour_{verdict}.png"
    assert names[2:] == ["gradcam.csv"]
    assert (rows[0].share_inside, rows[0].hit) == (1.0, True)
    assert (rows[1].share_inside, rows[1].share_by_area, rows[1].hit) == (None, None, None)
    assert summary["sources"]["lgg"]["num_pictures"] == 1
    assert "share_by_area" in summary["note"]


def test_an_empty_report_has_no_numbers(tmp_path: Path) -> None:
    assert write_gradcam(tmp_path, [], synthetic=False)["sources"] == {}
    assert read_rows(tmp_path / "gradcam.csv", SaliencyRow) == []
