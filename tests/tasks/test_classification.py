"""Several classes of a slice: logits, probabilities and the area under the ROC curve."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from slicewise.config.schema.model import ClassificationSettings
from slicewise.tasks.base import SliceTable
from slicewise.tasks.classification import Classification

NAMES = ("none", "glioma", "meningioma")


def test_the_first_class_has_no_probability_of_its_own() -> None:
    sigmoid, softmax = (
        Classification(ClassificationSettings(classes=NAMES, activation=activation))
        for activation in ("sigmoid", "softmax")
    )
    assert (sigmoid.num_channels, softmax.num_channels) == (2, 3)
    assert sigmoid.probabilities(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]
    assert softmax.probabilities(torch.zeros(1, 3)).tolist() == [[pytest.approx(1 / 3)] * 2]


def test_auc_of_exclusive_classes_is_the_mean_of_each_against_the_others() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 40).astype(float), rng.normal(size=(40, 3))
    numbers = np.arange(40)
    included = np.ones(40, bool)
    table = SliceTable(np.full(40, "a"), numbers, numbers, included, included, labels)
    task = Classification(ClassificationSettings(classes=NAMES, activation="softmax"))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    found = task.metrics(table, logits)

    expected = np.mean([roc_auc_score(labels == number, shares[:, number]) for number in (1, 2)])
    assert found == {"auc": pytest.approx(expected), "auc_a": pytest.approx(expected)}
