"""Several classes of a pixel: targets, predicted masks and Dice, with sigmoid and with softmax."""

from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slicewise.config.schema.model import SegmentationSettings
from slicewise.tasks.base import SliceTable
from slicewise.tasks.segmentation import Segmentation

LABELS = torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8)[:, None, None]
OVERLAPPING = SegmentationSettings(
    classes=("whole", "core", "enhancing"), labels=((1, 2, 3), (1, 3), (3,)), activation="sigmoid"
)


def task(activation: Literal["sigmoid", "softmax"], *classes: str) -> Segmentation:
    return Segmentation(SegmentationSettings(classes=classes, labels=None, activation=activation))


def test_overlapping_classes_comprise_their_labels() -> None:
    masks = Segmentation(OVERLAPPING).encode(LABELS)
    assert masks[0, :, 0].tolist() == [[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]]


def test_without_labels_one_class_is_everything_and_several_are_numbered() -> None:
    assert task("sigmoid", "tumour").encode(LABELS)[0, 0, 0].tolist() == [0, 1, 1, 1]
    assert task("softmax", "a", "b").encode(LABELS)[0, :, 0].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize(("activation", "channels"), [("sigmoid", 2), ("softmax", 3)])
def test_at_the_start_all_classes_together_have_the_usual_share(
    activation: Literal["sigmoid", "softmax"], channels: int
) -> None:
    made = task(activation, "a", "b")
    bias = torch.tensor(made.initial_bias)[None, :, None, None]
    assert bias.shape[1] == made.num_channels == channels
    share = made.probabilities(bias).sum() / (2 if activation == "sigmoid" else 1)
    assert share.item() == pytest.approx(0.02)


def test_exclusive_classes_never_overlap_and_background_is_one_of_them() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [2.0, 4.0, 1.0], [0.0, 1.0, 2.0]]).T[None, :, None]
    made = task("softmax", "a", "b")
    assert made.masks(logits)[0, :, 0].tolist() == [[False, True, False], [False, False, True]]
    assert made.probabilities(logits).shape == (1, 2, 1, 3)


def slices(patients: list[int], has_mask: list[bool]) -> SliceTable:
    count = len(patients)
    ones: NDArray[np.bool_] = np.ones(count, bool)
    numbers = np.array(patients)
    return SliceTable(np.full(count, "a"), numbers, numbers, np.array(has_mask), ones, np.ones(count))


def test_dice_is_that_of_each_class_over_the_slices_of_a_patient_and_their_mean() -> None:
    rng = torch.Generator().manual_seed(0)
    made = task("softmax", "a", "b")
    logits, labels = (
        torch.randn(5, 3, 8, 8, generator=rng),
        torch.randint(0, 3, (5, 1, 8, 8), generator=rng).to(torch.uint8),
    )
    batch: Any = SimpleNamespace(images=torch.ones(5, 4, 8, 8), masks=made.encode(labels))
    table = slices([0, 0, 1, 1, 2], [True, True, True, True, False])
    scores = made.score(logits, batch).double().numpy()

    found = made.metrics(table, scores)

    predicted, reference = logits.argmax(1).numpy(), labels[:, 0].numpy()
    expected = []
    for rows in ([0, 1], [2, 3]):
        ours, theirs = predicted[rows], reference[rows]
        pairs = [(ours == number, theirs == number) for number in (1, 2)]
        expected.append([2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in pairs])
    assert [*found] == ["dice", "dice_a", "dice_b"]
    assert found["dice_a"] == pytest.approx(np.mean(expected, axis=0)[0])
    assert found["dice_b"] == pytest.approx(np.mean(expected, axis=0)[1])
    assert found["dice"] == pytest.approx(np.mean(expected))
    values = made.contributions(table, scores, ["dice", "dice_b"])
    assert values["dice"] == pytest.approx(np.mean(expected, axis=1).tolist())
    assert values["dice_b"] == pytest.approx([row[1] for row in expected])
    assert [*values] == ["dice", "dice_b"]


def test_logits_that_are_not_finite_show_in_the_scores() -> None:
    made = task("sigmoid", "a", "b")
    logits = torch.zeros(2, 2, 4, 4)
    logits[1, 1, 0, 0] = torch.nan
    batch: Any = SimpleNamespace(images=torch.ones(2, 4, 4, 4), masks=torch.zeros(2, 2, 4, 4))
    assert made.score(logits, batch).isfinite().all(1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a", "a")}, "names a class twice"),
        ({"labels": ((1,),)}, "labels of each of the 2 classes"),
        ({"labels": ((1, 2), (2,)), "activation": "softmax"}, "which softmax excludes"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    sound = {"classes": ("a", "b"), "labels": None, "activation": "sigmoid"}
    with pytest.raises(ValueError, match=message):
        SegmentationSettings.model_validate(sound | changes)
