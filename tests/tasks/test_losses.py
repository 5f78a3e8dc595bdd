"""The losses of segmentation and classification, for one class and for several."""

from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from slicewise.config.compose import compose
from slicewise.config.schema import Objective
from slicewise.config.schema.model import ClassificationSettings, SegmentationSettings
from slicewise.tasks.classification import Classification
from slicewise.tasks.segmentation import Segmentation
from slicewise.training.learner import compute_losses

TRAINING = compose().training
Activation = Literal["sigmoid", "softmax"]
BINARY = ("bce", "dice", "iou", "focal", "tversky")
EXCLUSIVE = ("ce", "dice", "iou", "focal", "tversky")


def segmentation(activation: Activation = "sigmoid", *classes: str) -> Segmentation:
    names = classes or ("tumour",)
    return Segmentation(SegmentationSettings(classes=names, labels=None, activation=activation))


def targets(masks: Tensor, has_mask: list[bool] | None = None) -> Any:
    marks = torch.tensor([True] * len(masks) if has_mask is None else has_mask)
    return SimpleNamespace(masks=masks, has_mask=marks)


def mask_loss(logits: Tensor, batch: Any, task: Segmentation | None = None, **weights: float) -> Tensor:
    return (task or segmentation()).loss(logits, batch, TRAINING.model_copy(update={"mask_loss": weights}))


def example() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 1, 16, 16), (torch.rand(4, 1, 16, 16) > 0.7).float()


@pytest.mark.parametrize(
    ("task", "term"),
    [
        *[(segmentation("sigmoid", *names), term) for term in BINARY for names in (("a",), ("a", "b"))],
        *[(segmentation("softmax", *names), term) for term in EXCLUSIVE for names in (("a",), ("a", "b"))],
    ],
)
def test_each_loss_falls_from_wrong_to_right(task: Segmentation, term: str) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, len(task.classes) + 1, (4, 1, 16, 16))
    masks = task.encode(labels.to(torch.uint8))
    right = 20 * (2 * masks - 1)
    if task.is_exclusive:
        right = 40 * one_hot(labels[:, 0], task.num_channels).permute(0, 3, 1, 2).float()
    wrong = right.roll(1, 1) if task.is_exclusive else -right

    values = [
        float(mask_loss(logits, targets(masks), task, **{term: 1.0}))
        for logits in (right, torch.zeros_like(right), wrong)
    ]

    assert values[0] < 0.01 < values[1] < values[2]


def test_the_terms_are_those_of_the_papers() -> None:
    logits, masks = example()
    p, t = logits.sigmoid(), masks
    tp, fp, fn = (p * t).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()
    bce = -(t * p.log() + (1 - t) * (1 - p).log())
    expected = {
        "bce": bce.mean(),
        "dice": 1 - 2 * tp / (2 * tp + fp + fn),
        "iou": 1 - tp / (tp + fp + fn),
        "focal": ((1 - (-bce).exp()) ** 2 * bce).mean(),
        "tversky": 1 - tp / (tp + 0.3 * fp + 0.7 * fn),
    }

    for term, value in expected.items():
        loss = mask_loss(logits, targets(masks), None, **{term: 1.0})
        assert loss.item() == pytest.approx(value.item(), abs=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_dice_of_several_classes_is_their_mean_without_the_background(activation: Activation) -> None:
    torch.manual_seed(0)
    task = segmentation(activation, "core", "edema")
    masks = task.encode(torch.randint(0, 3, (4, 1, 16, 16)).to(torch.uint8))
    logits = torch.randn(4, task.num_channels, 16, 16)
    p = task.probabilities(logits)
    expected = 1 - (2 * (p * masks).sum((0, 2, 3)) / (p + masks).sum((0, 2, 3))).mean()

    assert mask_loss(logits, targets(masks), task, dice=1).item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_loss_is_the_weighted_sum() -> None:
    logits, masks = example()
    bce, dice = (mask_loss(logits, targets(masks), None, **{term: 1}) for term in ("bce", "dice"))

    both = mask_loss(logits, targets(masks), bce=0.5, dice=2, iou=0)

    assert both.item() == pytest.approx((0.5 * bce + 2 * dice).item(), rel=1e-6)


def test_slices_without_mask_do_not_count() -> None:
    logits, masks = example()

    loss = mask_loss(logits, targets(masks, [True, False, True, False]), bce=1, dice=1)
    alone = mask_loss(logits[[0, 2]], targets(masks[[0, 2]]), bce=1, dice=1)

    assert torch.equal(loss, alone)


def test_a_batch_without_any_mask_costs_nothing_and_can_be_learned_from() -> None:
    logits, masks = example()
    logits.requires_grad_()

    loss = mask_loss(logits, targets(masks, [False] * 4), bce=1, dice=1)
    torch.autograd.backward(loss)

    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def class_loss(
    logits: Tensor, labels: Tensor, smoothing: float, activation: Activation = "sigmoid"
) -> Tensor:
    settings = ClassificationSettings(classes=("none", "tumour"), activation=activation)
    training = TRAINING.model_copy(update={"label_smoothing": smoothing})
    batch: Any = SimpleNamespace(labels=labels)
    return Classification(settings).loss(logits, batch, training)


def test_losses_are_fp32_whatever_the_logits_are() -> None:
    logits, masks = example()

    assert mask_loss(logits.bfloat16(), targets(masks), dice=1).dtype == torch.float32
    assert class_loss(logits[:, :, 0, 0].bfloat16(), masks[:, 0, 0, 0], 0.1).dtype == torch.float32


def test_label_smoothing_prefers_less_certain_answers() -> None:
    labels = torch.tensor([0.0, 1.0])
    certain, sober = torch.tensor([[-9.0], [9.0]]), torch.tensor([[-2.0], [2.0]])

    assert class_loss(certain, labels, 0.0) < class_loss(sober, labels, 0.0)
    assert class_loss(certain, labels, 0.2) > class_loss(sober, labels, 0.2)


def test_two_exclusive_classes_are_the_binary_ones() -> None:
    """Softmax over (0, x) is the sigmoid of x."""
    labels, logits = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([[-1.0], [0.3], [2.0]])
    pairs = torch.cat([torch.zeros_like(logits), logits], 1)

    assert class_loss(pairs, labels, 0.1, "softmax").item() == pytest.approx(
        class_loss(logits, labels, 0.1).item()
    )


def test_the_total_is_the_weighted_sum() -> None:
    logits, masks = example()
    settings = ClassificationSettings(classes=("none", "tumour"), activation="sigmoid")
    batch: Any = SimpleNamespace(masks=masks, has_mask=torch.ones(4, dtype=torch.bool), labels=torch.ones(4))
    losses = compute_losses(
        {"segmentation": logits, "classification": torch.randn(4, 1)},
        batch,
        {"segmentation": segmentation(), "classification": Classification(settings)},
        Objective(segmentation=2, classification=0.5),
        TRAINING,
    )
    mask, label = losses.tasks.values()

    assert mask > 0
    assert label > 0
    assert losses.total.item() == pytest.approx((2 * mask + 0.5 * label).item())
