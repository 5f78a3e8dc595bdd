import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from slicewise.config.schema import Evaluation
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.evaluate import evaluate_slices, pool_cases, score_case
from slicewise.evaluation.held_out import HeldOutCases, HeldOutResult, compare_thresholds
from slicewise.evaluation.mask_threshold import MaskGridSearch
from slicewise.evaluation.threshold_selection import (
    ThresholdSelection,
    select_thresholds,
    sensitivity_threshold,
    youden_threshold,
)
from slicewise.inference.calibration import Scaling
from slicewise.inference.postprocess import Postprocessing

Cohorts = Callable[..., list[CaseOutput]]


def specks(case: CaseOutput, place: int) -> CaseOutput:
    """Add a far-away false speck to one slice, surer than the tumour."""
    probability = case.mask_probability.copy()
    probability[place, :3, :4] = 0.95
    return replace(case, mask_probability=probability)


@pytest.mark.parametrize("shift", [0.0, -2.0])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_youden_loses_next_to_nothing_beside_the_best_point_of_the_roc_curve(
    shift: float, share: float
) -> None:
    """The index at the threshold, on slices it was not chosen on, beside the largest index there."""
    rng = np.random.default_rng(0)
    labels = (rng.random(8000) < share).astype(np.float64)
    logits = 2 * (2 * labels - 1) + 2 * rng.normal(size=8000) + np.log(share / (1 - share)) + shift
    scores = 1 / (1 + np.exp(-logits))
    threshold = youden_threshold(labels[::2], scores[::2])
    labels, scores = labels[1::2], scores[1::2]
    false_positive, true_positive, _ = roc_curve(labels, scores)
    called = scores >= threshold
    gain = called[labels == 1].mean() - called[labels == 0].mean()
    assert gain >= (true_positive - false_positive).max() - 0.02


def test_the_sensitivity_target_is_met_and_no_lower_threshold_is_taken() -> None:
    labels, scores = np.array([1.0] * 10 + [0.0] * 5), np.linspace(0.9, 0.1, 15)
    threshold = sensitivity_threshold(labels, scores, 0.8)
    assert (scores[:10] >= threshold).mean() == pytest.approx(0.8)
    assert sensitivity_threshold(labels, scores, 1.0) < scores[9]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("digits", [1, 3, 16])
def test_thresholds_are_those_of_comparing_every_slice_with_every_threshold(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(301) < 0.3).astype(np.float64)
    scores = np.round(np.clip(0.3 * labels + 0.8 * rng.random(301), 0, 1), digits).astype(np.float64)
    distinct = np.unique(scores)
    thresholds = np.concatenate([[0.0], (distinct[1:] + distinct[:-1]) / 2])
    called = scores[None] >= thresholds[:, None]
    sensitivity = called[:, labels == 1].mean(axis=1)
    for target in (0.5, 0.8, 0.95, 1.0, float(np.median(sensitivity))):
        expected = thresholds[sensitivity >= target].max()
        assert sensitivity_threshold(labels, scores, target) == expected


def test_many_slices_need_little_memory() -> None:
    rng = np.random.default_rng(0)
    labels, scores = (np.arange(25_000) % 2).astype(np.float64), rng.random(25_000)
    tracemalloc.start()
    youden_threshold(labels, scores)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 32 << 20


def test_few_validation_patients_keep_what_is_configured(cohorts: Cohorts, settings: Evaluation) -> None:
    selection = select_thresholds(cohorts(num_patients=3, num_pictures=3), settings)
    for source, who in (("lgg", "3 validation patients"), ("pictures", "3 families of validation pictures")):
        assert selection.postprocessing(source) == Postprocessing.configured(settings)
        (note,) = selection.sources[source].notes
        assert note.startswith(f"{who}, fewer than evaluation.min_choice_patients (4)")
        assert "probabilities are raw, not calibrated" in note
    assert selection.postprocessing("a source without validation") == Postprocessing.configured(settings)


def test_few_patients_of_a_segmentation_are_told_of_no_calibration(
    cohorts: Cohorts, settings: Evaluation
) -> None:
    cases = [
        replace(case, class_probability=np.zeros_like(case.class_probability))
        for case in cohorts(num_patients=3, num_pictures=0)
    ]
    (note,) = select_thresholds(cases, settings).sources["lgg"].notes
    assert note.endswith("the configured thresholds stay")


def test_slices_that_the_network_was_never_asked_about_choose_no_calibration(
    cohorts: Cohorts, settings: Evaluation
) -> None:
    """They have the probability 0 by decree, and tumour: to the fit they would be grave errors."""
    cases = cohorts(num_patients=8, num_pictures=0, skill=0.5)
    asked = np.arange(len(cases[0].keys)) != 4
    probability = np.where(asked, cases[0].class_probability, 0).astype(np.float32)
    partly = replace(cases[0], class_probability=probability, included=asked)
    without = replace(
        partly,
        keys=[key for key, included in zip(cases[0].keys, asked, strict=True) if included],
        **{
            name: getattr(partly, name)[asked]
            for name in ("mask_probability", "class_probability", "masks", "labels", "included")
        },
    )
    found, expected = (
        select_thresholds([first, *cases[1:]], settings).sources["lgg"] for first in (partly, without)
    )

    assert cases[0].labels[4] == 1
    assert found.postprocessing.scaling == expected.postprocessing.scaling
    assert found.postprocessing.class_threshold == expected.postprocessing.class_threshold
    assert found.validation["num_slices"] == expected.validation["num_slices"]


def test_everything_switched_off_chooses_nothing(cohorts: Cohorts, settings: Evaluation) -> None:
    off = {"calibrate": "none", "operating_point": "fixed", "choose_mask_threshold": False}
    found = select_thresholds(cohorts(), settings.model_copy(update={**off, "postprocess": False}))
    assert {choice.postprocessing for choice in found.sources.values()} == {
        Postprocessing.configured(settings)
    }


@pytest.mark.parametrize(
    ("off", "field", "value"),
    [
        ({"calibrate": "none"}, "scaling", Scaling()),
        ({"operating_point": "fixed"}, "class_threshold", pytest.approx(0.5)),
        ({"choose_mask_threshold": False}, "mask_threshold", 0.5),
        ({"postprocess": False}, "component_share", 0.0),
    ],
    ids=lambda value: str(value),
)
def test_each_choice_has_its_switch(
    cohorts: Cohorts, settings: Evaluation, off: dict[str, object], field: str, value: object
) -> None:
    """Every switch matters here: the cohort is one in which all four choices are worth making."""
    cohort = cohorts(num_patients=16, num_pictures=0, skill=0.6)
    cases = [specks(faint(leaning(case)), 4) for case in cohort]
    assert raw_postprocessing(select_thresholds(cases, settings).postprocessing("lgg"), field) != value
    without = select_thresholds(cases, settings.model_copy(update=off)).postprocessing("lgg")
    assert raw_postprocessing(without, field) == value


def raw_postprocessing(postprocessing: Postprocessing, field: str) -> object:
    """Return a field of a decision; the class threshold as that of the raw probability."""
    if field == "class_threshold" and postprocessing.class_threshold is not None:
        return float(postprocessing.scaling.undo(postprocessing.class_threshold))
    return getattr(postprocessing, field)


def leaning(case: CaseOutput) -> CaseOutput:
    """Make the model lean to "no tumour": the best class threshold is far below 0.5."""
    return replace(case, class_probability=Scaling(1.0, -4.0)(case.class_probability).astype(np.float32))


def faint(case: CaseOutput) -> CaseOutput:
    """Make the network unsure of every pixel: the best threshold is far below 0.5."""
    return replace(case, mask_probability=(case.mask_probability * 0.7).astype(np.float32))


def test_the_search_counts_what_scoring_counts(cohorts: Cohorts, settings: Evaluation) -> None:
    """Dice from the counts of the search is the Dice of the tables, for every candidate."""
    cases = [specks(case, 2) for case in cohorts(num_patients=3, num_pictures=0, skill=0.3)]
    search = MaskGridSearch(settings)
    for case in cases:
        search.add(case)
    for threshold, component, share, gate in [
        (0.3, 20, 0.0, True),
        (0.7, 0, 1.0, False),
        (0.5, 20, 0.3, False),
    ]:
        postprocessing = Postprocessing(Scaling(1.3, -0.2), 0.6, threshold, component, share, gate)
        scored = [score_case(case, settings, postprocessing, surfaces=False) for case in cases]
        rows = pool_cases(scored, settings, 0).patients
        assert search.patient_dice(postprocessing) == pytest.approx([row.dice for row in rows])


def test_specks_are_removed_because_the_validation_patients_have_them(
    cohorts: Cohorts, settings: Evaluation
) -> None:
    only = settings.model_copy(update={"choose_mask_threshold": False})
    validation = [specks(case, 1) for case in cohorts(num_patients=6, num_pictures=0, seed=1)]
    postprocessing = select_thresholds(validation, only).postprocessing("lgg")
    assert postprocessing.min_component or postprocessing.component_share
    clean = cohorts(num_patients=6, num_pictures=0, skill=1.0, seed=1)
    kept = select_thresholds(clean, only).postprocessing("lgg")
    assert (kept.min_component, kept.component_share, kept.gate) == (0, 0.0, False)


@pytest.mark.parametrize("num_patients", [1, 3])
def test_so_few_patients_with_masks_that_none_can_be_held_out_choose_nothing(
    cohorts: Cohorts, settings: Evaluation, num_patients: int
) -> None:
    allowed = settings.model_copy(update={"min_choice_patients": 1})
    selection = select_thresholds(cohorts(num_patients=num_patients, num_pictures=0), allowed)
    assert selection.postprocessing("lgg") == Postprocessing.configured(settings)
    assert (
        "with masks, fewer than 4: mask threshold and post-processing stay"
        in selection.sources["lgg"].notes[-1]
    )


def test_choices_are_the_same_whatever_the_order_of_cases(cohorts: Cohorts, settings: Evaluation) -> None:
    cases = cohorts(num_patients=6)
    one, two = select_thresholds(cases, settings), select_thresholds(cases[::-1], settings)
    for source in ("lgg", "pictures"):
        first, second = one.postprocessing(source), two.postprocessing(source)
        assert first.to_json() == pytest.approx(second.to_json())
    json.dumps(one.to_json(), allow_nan=False)


def test_test_cases_open_once_and_for_finished_choices_alone(cohorts: Cohorts, settings: Evaluation) -> None:
    opened = []

    def open_cases() -> list[str]:
        opened.append("test")
        return ["case"]

    sealed = HeldOutCases(open_cases)
    with pytest.raises(TypeError, match="after threshold selection"):
        sealed.open(settings)  # type: ignore[arg-type]
    assert opened == []
    selection = select_thresholds(cohorts(), settings)
    assert sealed.open(selection) == ["case"]
    with pytest.raises(RuntimeError, match="opened before"):
        sealed.open(selection)
    assert opened == ["test"]


def test_before_is_the_plain_evaluation_and_after_what_was_chosen(
    final: HeldOutResult, cohorts: Cohorts, settings: Evaluation
) -> None:
    plain = evaluate_slices(cohorts(), settings, seed=7, surfaces=False)
    assert final.before == plain
    found = compare_thresholds(final)["lgg"]
    postprocessing = final.selection.postprocessing("lgg")
    assert (found["temperature"], found["shift"]) == postprocessing.scaling != Scaling()
    again = [
        score_case(case, settings, final.selection.postprocessing(case.keys[0].source)) for case in cohorts()
    ]
    assert final.after == pool_cases(again, settings, 7)
    assert found["before"]["brier"] != found["after"]["brier"]
    for row in final.after.slices:
        assert np.count_nonzero(final.predicted_masks(row)) == row.predicted_pixels


def test_no_validation_case_means_configured_thresholds(settings: Evaluation) -> None:
    assert select_thresholds([], settings) == ThresholdSelection({}, Postprocessing.configured(settings))
