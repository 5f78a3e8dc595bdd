"""Segmentation losses by name: functions of the task's settings that return the loss.

The loss takes logits, fp32 [B, channel, row, col], and targets, and returns a scalar. Targets are with
sigmoid float [B, channel, row, col] of 0 and 1; with softmax int64 [B, row, col], the channel, 0 for the
background.
Another package adds one by an entry point `slicewise.losses`.
"""

from collections.abc import Callable
from typing import Any, Final

from segmentation_models_pytorch import losses as smp
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from slicewise.config.schema.model import SegmentationSettings
from slicewise.tasks.base import Loss

_GAMMA: Final = 2.0


def bce(_task: SegmentationSettings) -> Loss:
    """Binary cross-entropy of each class; for sigmoid."""
    return binary_cross_entropy_with_logits


def ce(_task: SegmentationSettings) -> Loss:
    """Cross-entropy over classes and background; for softmax."""
    return cross_entropy


def dice(task: SegmentationSettings) -> Loss:
    """Soft Dice, the mean of the classes without the background."""
    return _overlap(smp.DiceLoss, task)


def iou(task: SegmentationSettings) -> Loss:
    """Soft Jaccard, likewise."""
    return _overlap(smp.JaccardLoss, task)


def tversky(task: SegmentationSettings) -> Loss:
    """Tversky, likewise: misses cost more than false alarms (Salehi 2017)."""
    return _overlap(smp.TverskyLoss, task, alpha=0.3, beta=0.7)


def focal(task: SegmentationSettings) -> Loss:
    """Focal loss (Lin 2017)."""
    if task.activation == "softmax":
        return _softmax_focal
    loss: Loss = smp.FocalLoss("multilabel", gamma=_GAMMA)
    return loss


def _softmax_focal(logits: Tensor, targets: Tensor) -> Tensor:
    entropy = cross_entropy(logits, targets, reduction="none")
    return ((1 - (-entropy).exp()) ** _GAMMA * entropy).mean()


def _overlap(kind: Callable[..., Loss], task: SegmentationSettings, **settings: Any) -> Loss:
    if task.activation == "softmax":
        return kind("multiclass", classes=[*range(1, task.num_channels)], **settings)
    return kind("multilabel", **settings)
