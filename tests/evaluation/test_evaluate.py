from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from slicewise.config.schema import Evaluation
from slicewise.domain.keys import SliceKey
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.evaluate import EvaluationResult, evaluate_slices, score_case
from slicewise.inference.postprocess import Postprocessing


def squares(patient: str, case: str, *pairs: tuple[int, int], pixel_mm: float = 1.0) -> CaseOutput:
    """One slice per pair: `true` pixels of reference and the first `guessed` of the same pixels."""
    masks = np.zeros((len(pairs), 10, 10), np.uint8)
    probability = np.zeros((len(pairs), 10, 10), np.float32)
    for place, (true, guessed) in enumerate(pairs):
        masks[place].flat[:true] = 2
        probability[place].flat[:guessed] = 0.9
    return CaseOutput(
        keys=[SliceKey("lgg", patient, case, index) for index in range(len(pairs))],
        group=patient,
        mask_probability=probability,
        class_probability=np.full(len(pairs), 0.6, np.float32),
        masks=masks,
        has_mask=True,
        labels=np.array([true > 0 for true, _ in pairs], np.int8),
        pixel_mm=pixel_mm,
        slice_mm=5.0,
    )


def test_a_patient_is_scored_on_all_slices_pooled(settings: Evaluation) -> None:
    result = evaluate_slices([squares("P1", "P1", (40, 20), (0, 0), (10, 10))], settings, seed=0)
    assert [row.dice for row in result.slices] == pytest.approx([2 / 3, 1, 1])
    (patient,) = result.patients
    assert patient.dice == pytest.approx(2 * 30 / (50 + 30))
    assert patient.scores["iou"] == pytest.approx(30 / 50)
    assert (patient.num_slices, patient.num_tumour_slices, patient.num_cases) == (3, 2, 1)
    assert patient.slice_accuracy == pytest.approx(2 / 3)


def test_cases_of_one_patient_are_pooled_and_volumes_use_each_case_own_pixels(settings: Evaluation) -> None:
    cases = [squares("P1", "P1-2", (10, 10)), squares("P1", "P1-1", (10, 0), pixel_mm=2.0)]
    (patient,) = evaluate_slices(cases, settings, seed=0).patients
    assert patient.num_cases == 2
    assert patient.dice == pytest.approx(2 * 10 / 30)
    assert patient.reference_ml == pytest.approx((10 * 5 + 10 * 4 * 5) / 1000)
    assert patient.predicted_ml == pytest.approx(10 * 5 / 1000)


def test_without_a_pixel_size_no_volume_is_claimed(settings: Evaluation) -> None:
    case = replace(squares("P1", "P1", (10, 10)), pixel_mm=None)
    (patient,) = evaluate_slices([case], settings, seed=0).patients
    assert (patient.reference_ml, patient.predicted_ml) == (None, None)
    assert patient.dice == 1


def test_empty_references_follow_the_stated_policy(settings: Evaluation) -> None:
    cases = [squares("P1", "P1", (0, 0)), squares("P2", "P2", (0, 3))]
    patients = evaluate_slices(cases, settings, seed=0).patients
    assert [(row.empty_reference, row.dice) for row in patients] == [(True, 1.0), (True, 0.0)]


def test_volume_errors_are_signed_and_need_a_reference(settings: Evaluation) -> None:
    cases = [squares("P1", "P1", (40, 20)), squares("P2", "P2", (0, 3))]
    one, two = evaluate_slices(cases, settings, seed=0).patients
    assert one.scores["volume_error_ml"] == pytest.approx(-20 * 5 / 1000)
    assert one.scores["relative_volume_error"] == pytest.approx(-0.5)
    assert two.scores["volume_error_ml"] == pytest.approx(3 * 5 / 1000)
    assert two.scores["relative_volume_error"] is None
    (unknown,) = evaluate_slices([replace(cases[0], pixel_mm=None)], settings, seed=0).patients
    assert unknown.scores["volume_error_ml"] is None
    assert unknown.scores["relative_volume_error"] == pytest.approx(-0.5)


def test_surfaces_of_a_patient_are_those_of_the_volume(settings: Evaluation) -> None:
    """Slices 5 mm apart: what is missed in one of them is 5 mm away in the other, and dropped ones count."""
    case = squares("P1", "P1", (1, 1), (1, 0))
    near = evaluate_slices([case], settings, seed=0)
    assert near.patients[0].scores["hd95_mm"] == pytest.approx(5 * 0.95)  # distances 0 and 5, 95th percentile
    assert near.patients[0].scores["nsd"] == pytest.approx(2 / 3)
    assert [row.scores["hd95_mm"] for row in near.slices] == [0, None]
    assert [row.scores["nsd"] for row in near.slices] == [1, 0]
    apart = replace(case, keys=[replace(case.keys[0], index=place) for place in (0, 3)])
    assert evaluate_slices([apart], settings, seed=0).patients[0].scores["hd95_mm"] == pytest.approx(
        15 * 0.95
    )


def test_without_a_pixel_size_surfaces_in_mm_are_unknown(settings: Evaluation) -> None:
    case = replace(squares("P1", "P1", (10, 10)), pixel_mm=None)
    (patient,) = evaluate_slices([case], settings, seed=0).patients
    assert [patient.scores[name] for name in ("nsd", "hd95_mm", "boundary_f1")] == [None, None, 1]


def test_borders_are_measured_where_asked_and_change_nothing_else(
    case: CaseOutput, settings: Evaluation
) -> None:
    full = evaluate_slices([case], settings, seed=0)
    short = evaluate_slices([case], settings, seed=0, surfaces=False)
    assert full.patients[0].scores["hd95_mm"] is not None
    of_slices = dict.fromkeys(("boundary_f1", "nsd", "hd95_mm"))
    lesions = dict.fromkeys(("brats_hd95_mm", "lesion_dice", "lesion_hd95_mm", "lesion_f1"))
    for table, blank in (("slices", of_slices), ("patients", of_slices | lesions)):
        rows = getattr(full, table)
        assert getattr(short, table) == tuple(replace(row, scores={**row.scores, **blank}) for row in rows)


def test_pictures_have_no_overlap_columns(results: Callable[..., EvaluationResult]) -> None:
    result = results(num_patients=1, num_pictures=2)
    (row, _) = [row for row in result.slices if row.source == "pictures"]
    assert (row.dice, row.scores["iou"], row.reference_pixels, row.common_pixels) == (None, None, None, None)
    assert [row.dice for row in result.patients if row.source == "pictures"] == [None, None]


def test_the_thresholds_decide(case: CaseOutput, settings: Evaluation) -> None:
    strict = settings.model_copy(update={"mask_threshold": 1.0, "class_threshold": 1.0})
    rows = score_case(case, strict, Postprocessing.configured(strict)).rows
    assert {row.predicted_pixels for row in rows} == {0}
    assert {row.predicted for row in rows} == {0}
    assert (
        sum(
            row.predicted_pixels
            for row in score_case(case, settings, Postprocessing.configured(settings)).rows
        )
        > 0
    )


def test_tables_are_sorted_by_key_whatever_the_order_of_cases(settings: Evaluation) -> None:
    cases = [squares("P2", "P2", (3, 3)), squares("P1", "P1", (4, 4), (5, 5))]
    result = evaluate_slices(iter(cases), settings, seed=0)
    assert result == evaluate_slices(cases[::-1], settings, seed=0)
    assert [row.key for row in result.slices] == sorted(row.key for row in result.slices)


def test_a_case_that_comes_twice_is_refused(case: CaseOutput, settings: Evaluation) -> None:
    with pytest.raises(ValueError, match="evaluated twice"):
        evaluate_slices([case, case], settings, seed=0)


def test_arrays_that_do_not_belong_together_are_refused(case: CaseOutput) -> None:
    with pytest.raises(ValueError, match="differ in length"):
        replace(case, labels=case.labels[:-1])
    with pytest.raises(ValueError, match="without a label"):
        replace(case, labels=np.full_like(case.labels, -1))
