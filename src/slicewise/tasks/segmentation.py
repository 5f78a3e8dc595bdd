"""Segmentation: the classes of every pixel, measured by Dice."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicewise.config.schema import Training
from slicewise.config.schema.model import LOSSES, SegmentationSettings
from slicewise.domain.classes import Classes
from slicewise.tasks.base import Contributions, Floats, Loss, LossFactory, SliceTable, Targets, Task

_PRIOR: Final = 0.02
"""Share of pixels with a class at the start of training (Lin 2017)"""


@dataclass(frozen=True)
class Segmentation(Task):
    """K classes of a pixel; with softmax their probabilities add up to 1 minus that of the background."""

    settings: SegmentationSettings
    name: ClassVar = "segmentation"
    head: ClassVar = "mask"

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """Red, green and blue of each class, 0 to 255."""
        return self.class_set.colours

    @property
    def class_set(self) -> Classes:
        """The classes as predictions and tables take them."""
        return Classes.of_pixels(self.classes, self.settings.activation)

    @property
    def initial_bias(self) -> list[float]:
        """The bias of each channel with which every class has the share of pixels that is usual for it."""
        if self.is_exclusive:
            return [0.0, *[math.log(_PRIOR / len(self.classes) / (1 - _PRIOR))] * len(self.classes)]
        return [math.log(_PRIOR / (1 - _PRIOR))] * len(self.classes)

    def encode(self, labels: Tensor) -> Tensor:
        """Return the masks of the classes, float [B, K, row, col] of 0 and 1.

        Args:
            labels: uint8 [B, 1, row, col], 0 for the background.
        """
        listed = self.settings.labels
        if listed is None and len(self.classes) == 1:
            return (labels > 0).float()
        listed = listed or tuple((number,) for number in range(1, len(self.classes) + 1))
        masks = [torch.stack([labels == label for label in each]).any(0) for each in listed]
        return torch.cat(masks, 1).float()

    def encode_masks(self, labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return the masks of the classes [S, K, row, col] from labels [S, row, col], 0 is the background."""
        return self.encode(torch.from_numpy(np.array(labels))[:, None]).bool().numpy()

    def loss(self, logits: Tensor, targets: Targets, training: Training) -> Tensor:
        """Return the weighted sum of the losses of `training.mask_loss` over the slices that have a mask."""
        logits, masks = logits[targets.has_mask].float(), targets.masks[targets.has_mask]
        if not len(logits):
            return logits.sum()
        if self.is_exclusive:
            numbers = torch.arange(1, len(self.classes) + 1, device=masks.device)[:, None, None]
            masks = (masks * numbers).sum(1).long()
        weights = training.mask_loss.items()
        return torch.stack([w * _term(name, self)(logits, masks) for name, w in weights if w]).sum()

    def has_target(self, slices: SliceTable) -> NDArray[np.bool_]:
        return slices.has_mask

    def masks(self, logits: Tensor) -> Tensor:
        """Return bool [B, K, row, col]: above 0.5 with sigmoid, the most probable class with softmax."""
        if not self.is_exclusive:
            return logits > 0
        numbers = torch.arange(1, self.num_channels, device=logits.device)[:, None, None]
        return logits.argmax(1, keepdim=True) == numbers

    def score(self, logits: Tensor, targets: Targets) -> Tensor:
        """Return [B, 3 K]: of each class the pixels in both masks, in the reference and in the prediction."""
        inside = (targets.images != 0).any(1, keepdim=True)
        masks = (self.masks(logits) & inside).float()
        finite = logits.flatten(1).isfinite().all(1, keepdim=True)
        common, reference = (masks * targets.masks).sum((2, 3)), targets.masks.sum((2, 3))
        return torch.cat([common, reference, masks.sum((2, 3)).where(finite, torch.nan)], 1)

    def metrics(self, slices: SliceTable, scores: Floats) -> dict[str, float]:
        """Return `dice`, and `dice_<class>` where there are several classes.

        The mean over patients of the Dice of all their slices together (1 where mask and prediction are both
        empty, 0 where no patient has a mask); `dice` is the mean of the classes.
        """
        dice = self._dice_by_patient(slices, scores)
        means = dice.T.copy().mean(1) if len(dice) else np.zeros(len(self.classes))
        # One class has no monitor of its own beside the mean, here and below.
        return dict(zip(self.settings.monitors, [float(means.mean()), *means.tolist()], strict=False))

    def contributions(self, slices: SliceTable, scores: Floats, monitors: Collection[str]) -> Contributions:
        """Return the mean Dice of the patients of each group; of the mean that is the pseudo-value itself."""
        dice = self._dice_by_patient(slices, scores)
        patients, first = np.unique(slices.patients[slices.has_mask], return_index=True)
        groups = slices.groups[slices.has_mask][first]
        assert len(patients) == len(dice)
        rows = np.array([dice[groups == group].mean(0) for group in np.unique(groups)])
        if not len(rows):
            return {}
        columns = [rows.mean(1), *rows.T]
        values = zip(self.settings.monitors, columns, strict=False)
        return {name: column.tolist() for name, column in values if name in monitors}

    def columns(self, sources: Sequence[str]) -> dict[str, str]:  # noqa: ARG002
        labels = ("Dice per patient", *(f"Dice, {name.replace('_', ' ')}" for name in self.classes))
        return dict(zip(self.settings.monitors, labels, strict=False))

    def _dice_by_patient(self, slices: SliceTable, scores: Floats) -> Floats:
        """Return the Dice of each patient that has masks, in order of appearance, [patient, K]."""
        rows = slices.has_mask
        common, reference, predicted = np.split(scores[rows], 3, axis=1)
        included = slices.included[rows, None]
        common_pixels, both_pixels = common * included, reference + predicted * included
        patients, numbers = np.unique(slices.patients[rows], return_inverse=True)
        members = (numbers == np.arange(len(patients))[:, None]).astype(np.float64)
        intersection, denominator = members @ common_pixels, members @ both_pixels
        dice: Floats = np.ones_like(intersection)
        np.divide(2 * intersection, denominator, out=dice, where=denominator > 0)
        return dice


@lru_cache(maxsize=64)
def _term(name: str, task: Segmentation) -> Loss:
    factory: LossFactory = LOSSES[name]  # type: ignore[assignment]  # what the registry's kind promises
    return factory(task.settings)
