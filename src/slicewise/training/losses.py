"""The training losses: mask losses from segmentation_models_pytorch and a smoothed cross-entropy, in fp32."""

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from slicewise.config.schema import MaskLoss, Objective, Training
from slicewise.data.loading.dataset import Batch
from slicewise.models.multitask import MultitaskOutput

_BINARY: Final = "binary"

MASK_TERMS: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "bce": binary_cross_entropy_with_logits,
    "dice": smp_losses.DiceLoss(_BINARY),
    "iou": smp_losses.JaccardLoss(_BINARY),
    "focal": smp_losses.FocalLoss(_BINARY, gamma=2.0),  # Lin 2017
    "tversky": smp_losses.TverskyLoss(_BINARY, alpha=0.3, beta=0.7),  # Salehi 2017: misses cost more
}


class Losses(NamedTuple):
    """Scalars, fp32; 0 for a task that was not computed."""

    total: Tensor
    mask: Tensor
    classification: Tensor


def compute_losses(
    outputs: MultitaskOutput, batch: Batch, objective: Objective, training: Training
) -> Losses:
    """Return the stage's loss and its two parts."""
    zero = torch.zeros((), device=batch.labels.device)
    mask = classification = zero
    if outputs.mask_logits is not None:
        mask = mask_loss(outputs.mask_logits, batch.masks, batch.has_mask, training.mask_loss)
    if outputs.class_logits is not None:
        classification = class_loss(outputs.class_logits, batch.labels, training.label_smoothing)
    total = objective.segmentation * mask + objective.classification * classification
    return Losses(total, mask, classification)


def mask_loss(logits: Tensor, masks: Tensor, has_mask: Tensor, weights: MaskLoss) -> Tensor:
    """Return the weighted sum of the mask losses over the slices that have a mask; 0 where none has.

    Args:
        logits: [batch, 1, row, col].
        masks: float, same shape, 0 or 1.
        has_mask: bool [batch].
        weights: weight of each term; a term of weight 0 is not computed.
    """
    logits, masks = logits[has_mask].float(), masks[has_mask]
    if not len(logits):
        return logits.sum()
    active = {name: weight for name, weight in weights.model_dump().items() if weight}
    return torch.stack([weight * MASK_TERMS[name](logits, masks) for name, weight in active.items()]).sum()


def class_loss(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the binary cross-entropy of logits [batch] with labels drawn towards 0.5 (Szegedy 2016)."""
    targets = labels * (1 - label_smoothing) + 0.5 * label_smoothing
    return binary_cross_entropy_with_logits(logits.float(), targets)
