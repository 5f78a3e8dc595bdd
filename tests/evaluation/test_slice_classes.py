"""Several classes of a slice: scored, calibrated, drawn and pooled over folds, as scikit-learn has it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sklearn

from slicewise.config.schema import Evaluation
from slicewise.core.files import read_json
from slicewise.domain.classes import Classes
from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import SliceRow, read_rows
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.cross_validation import pool_folds, write_pooled
from slicewise.evaluation.evaluate import EvaluationResult, evaluate_slices
from slicewise.evaluation.held_out import evaluate_held_out
from slicewise.evaluation.report import headlines, write_report, write_tables
from slicewise.evaluation.runs import read_run
from slicewise.evaluation.summary import summarise
from slicewise.evaluation.threshold_selection import select_thresholds
from slicewise.inference.calibration import (
    Scaling,
    brier_score,
    confidence,
    fit_scaling,
    negative_log_likelihood,
)
from slicewise.metrics.table import METRICS, Predictions

NAMES = ("glioma", "meningioma", "none", "pituitary")
CLASSES = Classes(NAMES[1:], exclusive=True, absence=NAMES[0])
TASKS = ("classification",)
Floats = NDArray[np.float64]


def draw(seed: int, number: int = 80, sharpness: float = 1.0) -> tuple[Floats, Floats]:
    """Return labels and probabilities that are right with a sharpness of 1, too certain above."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(number, len(NAMES)))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(len(NAMES), p=own) for own in shares], np.float64)
    sharp = shares**sharpness
    return labels, sharp / sharp.sum(1, keepdims=True)


def cases(seed: int = 0, sharpness: float = 1.0) -> list[CaseOutput]:
    labels, shares = draw(seed, sharpness=sharpness)
    return [
        CaseOutput(
            keys=[SliceKey("pictures", f"p{place:02d}", f"p{place:02d}", 0)],
            group=f"family {place // 2}",
            mask_probability=np.zeros((1, 1, 8, 8), np.float32),
            class_probability=own[None].astype(np.float32),
            masks=np.zeros((1, 1, 8, 8), np.bool_),
            has_mask=False,
            labels=np.array([label], np.int8),
            pixel_mm=None,
            slice_mm=1.0,
            slice_classes=CLASSES,
        )
        for place, (label, own) in enumerate(zip(labels, shares, strict=True))
    ]


@pytest.fixture
def several(settings: Evaluation) -> Evaluation:
    return settings.model_copy(update={"class_threshold": None})


def evaluated(several: Evaluation, own: list[CaseOutput]) -> EvaluationResult:
    return replace(evaluate_slices(own, several, 0), tasks=TASKS)


def test_the_scores_are_those_of_scikit_learn(several: Evaluation) -> None:
    labels, shares = draw(0)
    guess = shares.argmax(1)
    entry = summarise(evaluated(several, cases()))["sources"]["pictures"]
    section = entry["classification"]
    assert entry["patient_classification"] is None
    assert section["confusion"] == sklearn.confusion_matrix(labels, guess).tolist()
    expected = {
        "roc_auc": sklearn.roc_auc_score(labels, shares, multi_class="ovr"),
        "accuracy": sklearn.accuracy_score(labels, guess),
        "balanced_accuracy": sklearn.balanced_accuracy_score(labels, guess),
        "f1": sklearn.f1_score(labels, guess, average="macro"),
        "ppv": sklearn.precision_score(labels, guess, average="macro"),
        "mcc": sklearn.matthews_corrcoef(labels, guess),
        "pr_auc": np.mean([sklearn.average_precision_score(labels == c, shares[:, c]) for c in range(4)]),
    }
    assert {name: section[name]["value"] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert section["roc_auc"]["num_patients"] == 40, "families are resampled"
    each = sklearn.precision_recall_fscore_support(labels, guess)
    for number, name in enumerate(NAMES):
        own = section["classes"][name]
        values = [own[key]["value"] for key in ("ppv", "sensitivity", "f1")]
        assert values == pytest.approx([column[number] for column in each[:3]])
        assert own["num_slices"] == each[3][number]
    counts = np.bincount(labels.astype(int))
    assert section["majority_class"] in {NAMES[number] for number in np.flatnonzero(counts == counts.max())}
    assert section["majority_accuracy"] == pytest.approx(counts.max() / 80)


def test_a_slice_of_weight_two_counts_twice() -> None:
    labels, shares = draw(1, 30)
    whole = Predictions(labels, shares.argmax(1).astype(float), shares)
    rows = np.r_[np.arange(30), np.arange(7)]
    twice = Predictions(whole.labels[rows], whole.predicted[rows], whole.probabilities[rows])
    weights = np.ones((1, 30))
    weights[0, :7] = 2
    for name in ("roc_auc", "accuracy", "balanced_accuracy", "f1", "mcc", "ppv"):
        metric = METRICS[name]
        (weighted,) = metric.of_predictions(whole, weights)
        assert weighted == pytest.approx(float(metric.of_predictions(twice, np.ones((1, 37)))[0])), name


def test_the_temperature_of_too_certain_probabilities_is_found() -> None:
    labels, sharp = draw(2, 800, sharpness=2.0)
    scaling = fit_scaling(labels, sharp, shifted=True)
    assert scaling.shift == 0
    assert scaling.temperature == pytest.approx(2.0, rel=0.15)
    calm = scaling(sharp)
    np.testing.assert_allclose(calm.sum(1), 1)
    assert (calm.argmax(1) == sharp.argmax(1)).all()
    np.testing.assert_allclose(scaling.undo(calm), sharp, atol=1e-6)
    assert negative_log_likelihood(labels, calm) == pytest.approx(sklearn.log_loss(labels, calm))
    one_hot = np.eye(4)[labels.astype(int)]
    assert brier_score(labels, calm) == pytest.approx(((calm - one_hot) ** 2).sum(1).mean())
    right, sure = confidence(labels, calm)
    assert right.mean() == pytest.approx(sure.mean(), abs=0.03)


@pytest.mark.usefixtures("drawn_figures")
def test_the_report_has_the_classes_and_the_calibration(several: Evaluation, tmp_path: Path) -> None:
    selection = select_thresholds(cases(3, sharpness=3.0), several)
    chosen = selection.postprocessing("pictures")
    assert chosen.class_threshold is None
    assert chosen.scaling.temperature > 1.5
    held_out = evaluate_held_out(cases(4, sharpness=3.0), selection, several, 0, TASKS)
    assert [row.predicted for row in held_out.before.slices] == [
        row.predicted for row in held_out.after.slices
    ]
    metrics = write_report(tmp_path, held_out, data_name="pictures", stage="train", synthetic=True)
    raw, calm = (metrics["decisions"]["pictures"][name] for name in ("before", "after"))
    assert calm["ece"] < raw["ece"]
    assert calm["brier"] < raw["brier"]
    text = (tmp_path / "report.txt").read_text()
    assert "pictures: each class against the others" in text
    assert "called pituitary" in text
    assert "most probable class" in text
    assert "tumour" not in text.replace("masks in tumour", "")
    assert "balanced accuracy" in "\n".join(headlines(metrics))
    rows = read_rows(tmp_path / "slices.csv", SliceRow)
    np.testing.assert_allclose([sum(row.class_probabilities) for row in rows], 1, atol=1e-6)
    assert all(row.probability == max(row.class_probabilities) for row in rows)
    for name in ("confusion_matrix", "roc_curve", "reliability_diagram"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_too_few_of_one_class_are_not_calibrated(several: Evaluation) -> None:
    own = [case for case in cases(5) if case.labels[0] != 3][:40]
    (note,) = select_thresholds(own, several).sources["pictures"].notes
    assert "0 by class: fewer than 4 of one" in note


def test_folds_are_pooled_and_calibrated_across(several: Evaluation, tmp_path: Path) -> None:
    whole = evaluated(several, cases(6, sharpness=3.0))
    decision: dict[str, Any] = {"temperature": 1.0, "shift": 0.0, "class_threshold": None}
    folds = []
    for fold in (1, 2):
        members = {f"family {number}" for number in range(fold - 1, 40, 2)}
        own = replace(
            whole,
            slices=tuple(row for row in whole.slices if row.group in members),
            patients=tuple(row for row in whole.patients if row.group in members),
        )
        folder = tmp_path / str(fold)
        write_tables(folder, own, {"synthetic": True, **summarise(own), "decisions": {"pictures": decision}})
        folds.append(read_run(folder, f"fold {fold}"))
    pooled = pool_folds(folds, several, 0)
    assert pooled.slice_classes == CLASSES
    metrics = write_pooled(
        tmp_path / "pooled", folds, pooled, data_name="pictures", stage="train", synthetic=True
    )
    expected = summarise(whole)["sources"]["pictures"]["classification"]["balanced_accuracy"]["value"]
    assert metrics["sources"]["pictures"]["classification"]["balanced_accuracy"]["value"] == expected
    across = metrics["calibration"]["pictures"]["across_folds"]
    assert across["gain"]["value"] > 0
    assert across["ece"] < metrics["calibration"]["pictures"]["ece"]
    assert all(Scaling(**each).temperature > 1.5 for each in across["scalings"].values())
    assert json.dumps(read_json(tmp_path / "pooled" / "metrics.json"))
