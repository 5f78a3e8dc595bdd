"""Several classes of a slice: logits, probabilities, the area under the ROC curve and balanced accuracy."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from slicewise.config.schema.model import ClassificationSettings
from slicewise.domain.classes import Classes
from slicewise.tasks.base import SliceTable
from slicewise.tasks.classification import Classification

NAMES = ("none", "glioma", "meningioma")


def test_two_classes_have_one_probability_and_several_have_all() -> None:
    two = Classification(ClassificationSettings(classes=NAMES[:2], activation="softmax"))
    three = Classification(ClassificationSettings(classes=NAMES, activation="softmax"))
    assert two.slice_probabilities(torch.zeros(1, 2)).tolist() == [0.5]
    assert three.slice_probabilities(torch.zeros(1, 3)).tolist() == [[pytest.approx(1 / 3)] * 3]
    assert three.class_set == Classes(NAMES[1:], exclusive=True, absence="none")
    with pytest.raises(ValidationError, match=r"3 classes, and activation is sigmoid; set .*=softmax"):
        ClassificationSettings(classes=NAMES, activation="sigmoid")


def test_the_metrics_of_several_classes_are_means_over_them() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 40).astype(float), rng.normal(size=(40, 3))
    numbers = np.arange(40)
    included = np.ones(40, bool)
    table = SliceTable(np.full(40, "a"), numbers, numbers, included, included, labels)
    task = Classification(ClassificationSettings(classes=NAMES, activation="softmax"))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    found = task.metrics(table, logits)

    auc = pytest.approx(roc_auc_score(labels, shares, multi_class="ovr"))
    balanced = pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))
    assert found == {"auc": auc, "auc_a": auc, "balanced_accuracy": balanced, "balanced_accuracy_a": balanced}
    assert {*found} == {*task.columns(["a"])}
    values = task.contributions(table, logits, ["balanced_accuracy"])
    assert {*values} == {"balanced_accuracy_a"}
    assert np.mean(values["balanced_accuracy_a"]) == pytest.approx(found["balanced_accuracy"], abs=0.02)
