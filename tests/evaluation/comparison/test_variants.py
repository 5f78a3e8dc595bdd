import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from tests.fixtures.cohorts import SETTINGS

from slicewise.core.errors import UsageError
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.tables import ComparisonRow, read_rows
from slicewise.evaluation.comparison import (
    MAJORITY,
    NOT_TRAINED,
    Variant,
    across_seeds,
    check_common,
    compare,
    compute_gains,
    gain_text,
    majority_rows,
    to_markdown,
    to_table,
    to_text,
    verdict,
    write_comparison,
)
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.statistics import BootstrapSettings
from slicewise.evaluation.summary import summarise
from slicewise.metrics.table import METRICS

Results = Callable[..., EvaluationResult]
HOW = BootstrapSettings(SETTINGS.bootstrap_samples, SETTINGS.confidence, 7)


@pytest.fixture
def stages(results: Results) -> list[Variant]:
    return [
        Variant.configured("seg_warmup", results(skill=0.4), {CLASSIFICATION}),
        Variant.configured("cls_head", results(skill=0.5), {SEGMENTATION}),
        Variant.configured("joint", results(skill=0.9)),
    ]


def find(rows: list[ComparisonRow], source: str, score: str, name: str, seed: int = 7) -> ComparisonRow:
    (row,) = [
        row for row in rows if (row.source, row.score, row.name, row.seed) == (source, score, name, seed)
    ]
    return row


def test_untrained_tasks_are_named_and_not_scored(stages: list[Variant]) -> None:
    rows = compare(stages, HOW)
    for score, stage in (("dice_per_patient", "cls_head"), ("roc_auc", "seg_warmup")):
        row = find(rows, "lgg", score, stage)
        assert (row.value, row.low, row.high, row.note) == (None, None, None, NOT_TRAINED)


def test_scores_are_those_of_the_report(results: Results) -> None:
    result = results()
    rows = compare([Variant.configured("only", result)], HOW)
    scores = summarise(result)["sources"]["lgg"]
    for row in (row for row in rows if row.source == "lgg"):
        section = scores["segmentation" if row.score == "dice_per_patient" else "classification"]
        assert [row.value, [row.low, row.high]] == [section[row.score][key] for key in ("value", "interval")]


def test_the_difference_is_paired_and_to_the_first_that_has_the_score(stages: list[Variant]) -> None:
    rows = compare(stages, HOW)
    for score, base in (
        ("dice_per_patient", "seg_warmup"),
        ("roc_auc", "cls_head"),
        ("accuracy", "cls_head"),
    ):
        first, last = find(rows, "lgg", score, base), find(rows, "lgg", score, "joint")
        gain = find(rows, "lgg", score, f"joint - {base}")
        assert gain.value == pytest.approx((last.value or 0) - (first.value or 0))
    gain = find(rows, "lgg", "dice_per_patient", "joint - seg_warmup")
    assert (gain.low or 0) > 0
    assert verdict(gain) == "better"
    assert verdict(replace(gain, score="hd95_mm_per_patient")) == "worse"


def test_what_joint_gained_is_said_for_both_tasks(stages: list[Variant]) -> None:
    rows = compare(stages, HOW)
    gains = compute_gains(rows, "joint")
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
    assert compute_gains(compare(stages[:2], HOW), "joint") == {}


def test_a_gain_without_a_number_or_interval_is_said_so() -> None:
    gain = {"over": "cls_head", "before": 0.5, "value": 0.0, "interval": None}
    assert gain_text("joint", {"roc_auc": gain}) == "joint gained ROC-AUC +0.000 over cls_head"
    assert "n/a over" in gain_text("joint", {"roc_auc": {**gain, "value": None}})


def test_equal_variants_differ_by_exactly_nothing(stages: list[Variant]) -> None:
    rows = compare(
        [stages[2], replace(stages[2], name="same")], HOW, list(map(METRICS.__getitem__, METRICS.names()))
    )
    for row in rows:
        if row.minus and row.value is not None:
            assert (row.value, row.low, row.high, row.p_value, verdict(row)) == (0, 0, 0, None, "")


def test_pictures_have_no_dice(stages: list[Variant]) -> None:
    scores = {row.score for row in compare(stages, HOW) if row.source == "pictures"}
    assert scores == {"roc_auc", "accuracy", "balanced_accuracy"}


def test_accuracy_stands_beside_the_majority_class(stages: list[Variant]) -> None:
    rows = [*majority_rows(stages[2])]
    for source in ("lgg", "pictures"):
        slices, _ = stages[2].of_source(source)
        share = sum(row.label for row in slices) / len(slices)
        assert find(rows, source, "accuracy", MAJORITY).value == pytest.approx(max(share, 1 - share))


def test_the_number_beside_a_score_counts_what_its_interval_resamples(results: Results) -> None:
    """Twelve pictures in six families of two: an interval is drawn over six."""
    variants = [Variant.configured(name, in_pairs(results())) for name in ("a", "b")]
    rows = [*compare(variants, HOW), *majority_rows(variants[0])]
    assert {(row.num_patients, row.num_slices) for row in rows if row.source == "pictures"} == {(6, 12)}
    assert {row.num_patients for row in rows if row.source == "lgg"} == {4}


def in_pairs(result: EvaluationResult) -> EvaluationResult:
    """Make one family of each two pictures."""
    slices = (
        replace(row, group=f"family {place // 2}") if row.source == "pictures" else row
        for place, row in enumerate(result.slices)
    )
    return replace(result, slices=tuple(slices))


def test_a_score_that_one_of_them_lacks_is_counted(results: Results) -> None:
    result = results()
    first, *others = result.patients
    missed = replace(result, patients=(replace(first, scores={**first.scores, "hd95_mm": None}), *others))
    variants = [Variant.configured("a", result), Variant.configured("b", missed)]
    row = find(compare(variants, HOW, [METRICS["hd95_mm"]]), "lgg", "hd95_mm_per_patient", "b - a")
    assert (row.num_patients, row.note) == (
        3,
        "no interval: fewer than 4 patients or families of pictures; 1 more in one of them only",
    )


def test_other_patients_are_refused(stages: list[Variant]) -> None:
    strangers = [replace(row, patient=f"{row.patient}x") for row in stages[1].patients]
    with pytest.raises(UsageError, match="seg_warmup and cls_head have no test patient in common"):
        check_common([stages[0], replace(stages[1], patients=strangers)])


@pytest.mark.usefixtures("drawn_figures")
def test_the_comparison_is_written_in_all_forms(
    tmp_path: Path, stages: list[Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(Axes, "set_title", lambda _, text, **__: titles.append(text))
    rows = compare(stages, HOW)
    dots: list[int] = []
    plot = Axes.plot

    def count(axes: Axes, x: object, *args: object, **options: object) -> object:
        dots.append(np.size(x))  # type: ignore[arg-type]
        return plot(axes, x, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "plot", count)
    write_comparison(tmp_path, "stages", rows, "Stages", stages, synthetic=True, seed=3)
    found = json.loads((tmp_path / "stages.json").read_text())
    assert (found["synthetic"], found["seed"], len(found["rows"])) == (True, 3, len(rows))
    assert [row.name for row in read_rows(tmp_path / "stages.csv", ComparisonRow)] == [
        row.name for row in rows
    ]
    assert (tmp_path / "stages.png").stat().st_size > 5000
    dice = next(row for row in rows if row.score == "dice_per_patient" and row.value is not None)
    values = [row.dice for row in stages[0].patients if row.source == dice.source and row.dice is not None]
    assert dice.median == pytest.approx(np.median(values))
    assert len(values) in dots  # one for each patient
    assert "pictures: ROC-AUC, 12 pictures" in titles
    assert "lgg: Dice per patient (mask threshold 0.5), 4 patients or families, 32 slices" in titles
    text = (tmp_path / "stages.md").read_text()
    assert "# Stages (synthetic data)" in text
    assert text.count(NOT_TRAINED) == sum(row.value is None for row in rows)
    assert "synthetic" not in to_markdown(rows, "Stages", synthetic=False)


def test_a_score_that_depends_on_a_threshold_names_it(stages: list[Variant]) -> None:
    """Else another table of the run, with what was selected, seems to contradict it."""
    conditions = {(row.score, row.condition) for row in compare(stages, HOW) if row.variant == "joint"}
    assert conditions == {
        ("dice_per_patient", "mask threshold 0.5"),
        ("accuracy", "class threshold 0.5"),
        ("balanced_accuracy", "class threshold 0.5"),
        ("roc_auc", ""),
    }


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (2e-5, "< 0.001"), (0.001, "0.001"), (0.58, "0.580")]
)
def test_a_small_p_is_no_zero(value: float | None, text: str) -> None:
    row = ComparisonRow("lgg", "roc_auc", "b", "a", 0, 0.1, None, None, 4, 9, value, "", "")
    table = to_table([row])
    assert table.rows[0][table.head.index("p")] == text


def test_seeds_are_summed_up_by_mean_range_and_how_many_are_not_worse(results: Results) -> None:
    rows = []
    for seed, skill in ((0, 0.9), (1, 0.3)):
        good, other = (
            replace(Variant.configured(name, results(skill=value)), seed=seed)
            for name, value in (("base", 0.6), ("other", skill))
        )
        rows += compare([good, other], HOW)
    found = {
        (entry["variant"], entry["minus"]): entry
        for entry in across_seeds(rows)
        if (entry["source"], entry["score"]) == ("lgg", "dice_per_patient")
    }
    values = [find(rows, "lgg", "dice_per_patient", "other", seed).value for seed in (0, 1)]
    assert found["other", ""]["value"] == pytest.approx(
        {"mean": sum(filter(None, values)) / 2, "min": values[1], "max": values[0]}
    )
    assert (found["other", "base"]["num_seeds"], found["other", "base"]["num_not_worse"]) == (2, 1)
    assert found["other", ""]["num_not_worse"] is None
    assert any("other - base, seed 1" in line for line in to_text(rows))
