from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from slicewise.domain.tables import PatientRow
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.evaluate import EvaluationResult, evaluate_slices
from slicewise.evaluation.held_out import HeldOutResult
from slicewise.evaluation.report import to_text
from slicewise.evaluation.statistics import BootstrapSettings
from slicewise.evaluation.summary import patient_classification, summarise
from slicewise.inference.postprocess import Postprocessing, tumour_probability
from slicewise.metrics.table import metrics_of

HOW = BootstrapSettings(200, 0.95, 0)


@pytest.fixture
def pictures(result: EvaluationResult) -> list[PatientRow]:
    return [row for row in result.patients if row.source == "pictures"]


def test_scores_are_those_of_scikit_learn(pictures: list[PatientRow]) -> None:
    found = patient_classification(pictures, HOW)
    labels = [row.num_tumour_slices for row in pictures]
    scores = [row.tumour_probability for row in pictures]
    assert found["roc_auc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["pr_auc"]["value"] == pytest.approx(average_precision_score(labels, scores))
    assert found["accuracy"]["value"] == np.mean([row.called == row.num_tumour_slices for row in pictures])
    low, high = found["roc_auc"]["interval"]
    assert low <= found["roc_auc"]["value"] <= high
    assert (found["num_patients"], found["num_with_tumour"], found["num_without_tumour"]) == (12, 6, 6)
    assert found["num_called"] == sum(row.called for row in pictures)


def test_a_family_of_pictures_is_one_patient(pictures: list[PatientRow]) -> None:
    family = [replace(row, group="twins") if place % 2 else row for place, row in enumerate(pictures)]
    found = patient_classification(family, HOW)
    assert (found["num_patients"], found["num_with_tumour"]) == (7, 1)
    twins = max(row.tumour_probability for row in family if row.group == "twins")
    others = [row.tumour_probability for row in family if row.group != "twins"]
    assert found["roc_auc"]["value"] == pytest.approx(np.mean([twins > other for other in others]))


@pytest.mark.parametrize(("ill", "words"), [(1, "has a tumour"), (0, "has none")])
def test_with_one_class_there_is_nothing_to_tell_apart(
    pictures: list[PatientRow], ill: int, words: str
) -> None:
    found = patient_classification([replace(row, num_tumour_slices=ill) for row in pictures], HOW)
    assert (found["num_with_tumour"], found["num_without_tumour"]) == (12 * ill, 12 - 12 * ill)
    for name in (metric.name for metric in metrics_of("pooled")):
        assert (found[name]["value"], found[name]["interval"]) == (None, None)
        assert f"each of 12 patients {words}" in found[name]["note"]


def test_a_patient_has_the_probability_of_its_highest_case(
    case: CaseOutput, result: EvaluationResult
) -> None:
    keys = [replace(key, case="second") for key in case.keys]
    second = replace(case, keys=keys, class_probability=case.class_probability / np.float32(4))
    (row,) = evaluate_slices([second, case], result.settings, seed=0).patients
    assert row.tumour_probability == pytest.approx(tumour_probability(case.class_probability))
    assert row.called == Postprocessing.configured(result.settings).call(row.tumour_probability)


def test_what_was_chosen_decides_who_is_called(finals: Callable[..., HeldOutResult]) -> None:
    final = finals(num_patients=8)
    for row in final.after.patients:
        assert row.called == final.selection.postprocessing(row.source).call(row.tumour_probability)
    assert [row.tumour_probability for row in final.before.patients] != [
        row.tumour_probability for row in final.after.patients
    ]


def test_the_report_says_it_in_words(result: EvaluationResult) -> None:
    found = summarise(result)
    text = to_text({"data": "x", "synthetic": False, "stage": "joint", **found})
    assert "whole patients: 4 with tumour, 0 without" in text
    assert "each of 4 patients has a tumour: there is nothing to tell apart" in text
    assert "whole patients: 6 with tumour, 6 without" in text
    assert "ROC-AUC, patient level" in text


def test_where_a_class_hangs_on_one_patient_no_area_has_an_interval(pictures: list[PatientRow]) -> None:
    """Without the one healthy patient a resample would have a PR-AUC of 1, however bad the order."""
    ill = [replace(row, num_tumour_slices=int(place > 0)) for place, row in enumerate(pictures)]
    found = patient_classification(ill, HOW)
    for name in ("roc_auc", "pr_auc"):
        assert found[name]["value"] is not None
        assert found[name]["interval"] is None
        assert "too few patients" in found[name]["note"]
