import numpy as np
import pytest
import torch
from tests.training.conftest import MakeConfig

from slicewise.config.schema import MaskLoss, Objective
from slicewise.data.loading.dataset import SliceDataset
from slicewise.models.multitask import MultitaskModel
from slicewise.training.losses import MASK_TERMS, class_loss, compute_losses, mask_loss

ZERO = {"bce": 0.0, "dice": 0.0, "iou": 0.0, "focal": 0.0, "tversky": 0.0}


def weights(**changed: float) -> MaskLoss:
    return MaskLoss.model_validate({**ZERO, **changed})


def example() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 1, 16, 16), (torch.rand(4, 1, 16, 16) > 0.7).float()


@pytest.mark.parametrize("term", MASK_TERMS)
def test_each_loss_falls_from_wrong_to_right(term: str) -> None:
    _, masks = example()
    everyone = torch.ones(4, dtype=torch.bool)
    right, unsure, wrong = (
        float(mask_loss(logits, masks, everyone, weights(**{term: 1.0})))
        for logits in (20 * (2 * masks - 1), torch.zeros_like(masks), 20 * (1 - 2 * masks))
    )

    assert right < 0.01 < unsure < wrong


def test_the_terms_are_those_of_the_papers() -> None:
    logits, masks = example()
    everyone = torch.ones(4, dtype=torch.bool)
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
        assert mask_loss(logits, masks, everyone, weights(**{term: 1.0})).item() == pytest.approx(
            value.item(), abs=1e-5
        )


def test_the_loss_is_the_weighted_sum() -> None:
    logits, masks = example()
    everyone = torch.ones(4, dtype=torch.bool)
    bce = mask_loss(logits, masks, everyone, weights(bce=1))
    dice = mask_loss(logits, masks, everyone, weights(dice=1))

    both = mask_loss(logits, masks, everyone, weights(bce=0.5, dice=2))

    assert both.item() == pytest.approx((0.5 * bce + 2 * dice).item(), rel=1e-6)


def test_slices_without_mask_do_not_count() -> None:
    logits, masks = example()
    some = torch.tensor([True, False, True, False])

    loss = mask_loss(logits, masks, some, weights(bce=1, dice=1))
    alone = mask_loss(logits[[0, 2]], masks[[0, 2]], torch.ones(2, dtype=torch.bool), weights(bce=1, dice=1))

    assert torch.equal(loss, alone)


def test_a_batch_without_any_mask_costs_nothing_and_can_be_learned_from() -> None:
    logits, masks = example()
    logits.requires_grad_()

    loss = mask_loss(logits, masks, torch.zeros(4, dtype=torch.bool), weights(bce=1, dice=1))
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_losses_are_fp32_whatever_the_logits_are() -> None:
    logits, masks = example()

    assert (
        mask_loss(logits.bfloat16(), masks, torch.ones(4, dtype=torch.bool), weights(dice=1)).dtype
        == torch.float32
    )
    assert class_loss(logits[:, 0, 0, 0].bfloat16(), masks[:, 0, 0, 0], 0.1).dtype == torch.float32


def test_label_smoothing_prefers_less_certain_answers() -> None:
    labels = torch.tensor([0.0, 1.0])
    certain, sober = torch.tensor([-9.0, 9.0]), torch.tensor([-2.0, 2.0])

    assert class_loss(certain, labels, 0.0) < class_loss(sober, labels, 0.0)
    assert class_loss(certain, labels, 0.2) > class_loss(sober, labels, 0.2)


def test_the_total_is_the_weighted_sum(make_config: MakeConfig, train_set: SliceDataset) -> None:
    config = make_config()
    torch.manual_seed(0)
    batch = train_set.gather(np.arange(0, 46, 4))
    outputs = MultitaskModel(config.model)(batch.images, batch.presence)

    losses = compute_losses(outputs, batch, Objective(segmentation=2, classification=0.5), config.training)

    assert losses.mask > 0
    assert losses.classification > 0
    assert losses.total.item() == pytest.approx((2 * losses.mask + 0.5 * losses.classification).item())
