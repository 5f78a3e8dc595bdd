import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from slicewise.domain.scores import StageRow, score_name
from slicewise.evaluation.comparison.stage_gains import compute_stage_gains, gain_text
from slicewise.evaluation.comparison.stages import (
    MAJORITY,
    NOT_TRAINED,
    StageResult,
    compare_stages,
    to_markdown,
    write_stage_comparison,
)
from slicewise.evaluation.evaluate import EvaluationResult


@pytest.fixture
def stages(results: Callable[..., EvaluationResult]) -> list[StageResult]:
    return [
        StageResult("seg_warmup", results(skill=0.4), trained_mask=True, trained_class=False),
        StageResult("cls_head", results(skill=0.5), trained_mask=False, trained_class=True),
        StageResult("joint", results(skill=0.9), trained_mask=True, trained_class=True),
    ]


def find(rows: list[StageRow], source: str, score: str, phase: str) -> StageRow:
    (row,) = [row for row in rows if (row.source, row.score, row.phase) == (source, score, phase)]
    return row


def test_untrained_heads_are_named_and_not_scored(stages: list[StageResult]) -> None:
    rows = compare_stages(stages)
    for score, phase in (("dice_per_patient", "cls_head"), ("roc_auc", "seg_warmup")):
        row = find(rows, "lgg", score, phase)
        assert (row.value, row.low, row.high, row.note) == (None, None, None, NOT_TRAINED)


def test_the_difference_is_paired(stages: list[StageResult]) -> None:
    rows = compare_stages(stages)
    first = find(rows, "lgg", "dice_per_patient", "seg_warmup")
    last = find(rows, "lgg", "dice_per_patient", "joint")
    gain = find(rows, "lgg", "dice_per_patient", "joint - seg_warmup")
    assert gain.value == pytest.approx((last.value or 0) - (first.value or 0))
    assert gain.low is not None
    assert gain.low > 0


def test_what_joint_gained_is_said_for_both_tasks(stages: list[StageResult]) -> None:
    rows = compare_stages(stages)
    gains = compute_stage_gains(rows, "joint")
    dice = find(rows, "lgg", "dice_per_patient", "joint - seg_warmup")
    auc = find(rows, "lgg", "roc_auc", "joint - cls_head")

    assert {source: [*found] for source, found in gains.items()} == {
        "lgg": ["dice_per_patient", "roc_auc"],
        "pictures": ["roc_auc"],
    }
    assert gains["lgg"]["dice_per_patient"] == {
        "over": "seg_warmup",
        "before": find(rows, "lgg", "dice_per_patient", "seg_warmup").value,
        "value": dice.value,
        "interval": [dice.low, dice.high],
    }
    assert gain_text("joint", gains["lgg"]) == (
        f"joint gained Dice {dice.value:+.3f} ({dice.low:+.3f} to {dice.high:+.3f}) over seg_warmup, "
        f"ROC-AUC {auc.value:+.3f} ({auc.low:+.3f} to {auc.high:+.3f}) over cls_head"
    )
    assert compute_stage_gains(compare_stages(stages[:2]), "joint") == {}


def test_a_gain_without_a_number_or_interval_is_said_so() -> None:
    gain = {"over": "cls_head", "before": 0.5, "value": 0.0, "interval": None}
    assert gain_text("joint", {"roc_auc": gain}) == "joint gained ROC-AUC +0.000 over cls_head"
    assert "n/a over" in gain_text("joint", {"roc_auc": {**gain, "value": None}})


def test_equal_phases_differ_by_exactly_nothing(stages: list[StageResult]) -> None:
    same = [stages[0], replace(stages[2], result=stages[0].result)]
    gain = find(compare_stages(same), "lgg", "dice_per_patient", "joint - seg_warmup")
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def test_pictures_have_an_auc_and_no_dice(stages: list[StageResult]) -> None:
    assert {row.score for row in compare_stages(stages) if row.source == "pictures"} == {
        "roc_auc",
        "accuracy",
    }


def test_accuracy_stands_beside_the_majority_answer(stages: list[StageResult]) -> None:
    rows = compare_stages(stages)
    for source in ("lgg", "pictures"):
        slices = [row for row in stages[2].result.slices if row.source == source]
        share = sum(row.label for row in slices) / len(slices)
        assert find(rows, source, "accuracy", MAJORITY).value == pytest.approx(max(share, 1 - share))
        right = sum(row.right for row in slices) / len(slices)
        assert find(rows, source, "accuracy", "joint").value == pytest.approx(right)
        gain = find(rows, source, "accuracy", "joint - cls_head")
        assert gain.value == pytest.approx(right - (find(rows, source, "accuracy", "cls_head").value or 0))


def test_the_number_beside_a_score_counts_what_its_interval_resamples(stages: list[StageResult]) -> None:
    """Twelve pictures in six families of two: an interval is drawn over six."""
    rows = compare_stages([replace(phase, result=in_pairs(phase.result)) for phase in stages])
    scored = [row for row in rows if row.source == "pictures" and row.value is not None]
    assert {row.phase for row in scored} >= {MAJORITY, "joint", "joint - cls_head"}
    assert {(row.num_patients, row.num_slices) for row in scored} == {(6, 12)}
    assert {row.num_patients for row in rows if row.source == "lgg" and row.value is not None} == {4}


def test_titles_still_name_every_picture(
    tmp_path: Path, stages: list[StageResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(Axes, "set_title", lambda _, text: titles.append(text))
    paired = [replace(phase, result=in_pairs(phase.result)) for phase in stages]
    write_stage_comparison(tmp_path, paired, synthetic=True)
    assert "pictures: AUC per slice, 12 pictures" in titles
    assert "lgg: Dice per patient (mask threshold 0.5), 4 patients, 32 slices" in titles


def in_pairs(result: EvaluationResult) -> EvaluationResult:
    """Make one family of each two pictures."""
    slices = (
        replace(row, group=f"family {place // 2}") if row.source == "pictures" else row
        for place, row in enumerate(result.slices)
    )
    return replace(result, slices=tuple(slices))


def test_other_slices_are_refused(
    stages: list[StageResult], results: Callable[..., EvaluationResult]
) -> None:
    stages[1] = replace(stages[1], result=results(num_patients=3))
    with pytest.raises(ValueError, match="cls_head and seg_warmup were not evaluated on the same slices"):
        compare_stages(stages)
    with pytest.raises(ValueError, match="no stage"):
        compare_stages([])


def test_the_comparison_is_written_in_all_forms(tmp_path: Path, stages: list[StageResult]) -> None:
    rows = write_stage_comparison(tmp_path, stages, synthetic=True)
    found = json.loads((tmp_path / "phase_comparison.json").read_text())
    assert found["synthetic"] is True
    assert len(found["rows"]) == len(rows)
    assert len((tmp_path / "phase_comparison.csv").read_text().splitlines()) == len(rows) + 1
    assert (tmp_path / "phase_comparison.png").stat().st_size > 5000
    assert "synthetic data" in to_markdown(rows, synthetic=True)
    assert to_markdown(rows, synthetic=False).count(NOT_TRAINED) == 5


def test_a_score_that_depends_on_a_threshold_names_it(stages: list[StageResult]) -> None:
    """Else another table of the run, with what was chosen, seems to contradict it."""
    rows = compare_stages(stages)
    shown = {score_name(row) for row in rows if row.phase != MAJORITY}
    assert shown == {
        "Dice per patient (mask threshold 0.5)",
        "Accuracy per slice (class threshold 0.5)",
        "AUC per slice",
    }
    assert "| Accuracy per slice (class threshold 0.5) | joint |" in to_markdown(rows, synthetic=False)
