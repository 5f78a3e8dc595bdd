"""The backend of torch: the forward pass of a checkpoint, and the mean over its augmentations."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicewise.compute.device import full_precision
from slicewise.config.schema.model import TaskName
from slicewise.inference.backends import Floats, Forward
from slicewise.inference.ensemble import TTATransform, coverage
from slicewise.models.checkpoint import Checkpoint
from slicewise.tasks.base import Task
from slicewise.tasks.build import find_classification, find_segmentation

if TYPE_CHECKING:
    from slicewise.models.multitask import MultitaskModel

_LEAST_COVERAGE: Final = 1e-6  # of a pixel that a single rotation takes out of view: its probability is 0
_NO_CLASSIFICATION: Final = 0.5  # of every slice where the model does not classify; not reported


class Torch:
    """PyTorch in fp32: the calls recorded in the checkpoint, or the model built for another image size."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self._program = checkpoint.build_program(device)
        if self._program is None:
            _ = self.model  # a checkpoint that does not fit its model is reported now

    @cached_property
    def model(self) -> "MultitaskModel":
        """The model itself, for uses beyond prediction (Grad-CAM)."""
        model = self.checkpoint.build().float().eval().requires_grad_(False)
        return model.to(memory_format=torch.channels_last).to(self.device)

    def __call__(self, images: Tensor, presence: Tensor) -> Mapping[TaskName, Tensor]:
        program = self._program
        if program is not None and images.shape[-2:] == (program.size, program.size):
            return program(images, presence)
        logits: Mapping[TaskName, Tensor] = self.model(images, presence)
        return logits


def average(
    forward: Forward,
    tasks: Mapping[TaskName, Task],
    images: Floats,
    presence: Floats,
    transforms: Sequence[TTATransform],
    device: torch.device,
) -> tuple[Floats, Floats]:
    """Return one model's probabilities of the pixels [B, K, N, N] and of the slices [B] or [B, C]."""
    segmentation, classification = find_segmentation(tasks), find_classification(tasks)
    masks, classes, covered = [], [], []
    with torch.inference_mode(), full_precision():
        batch, slots = _tensor(images, device), _tensor(presence, device)
        no_mask, no_class = torch.zeros_like(batch[:, :1]), torch.full_like(slots[:, 0], _NO_CLASSIFICATION)
        for transform in transforms:
            logits = forward(transform.apply(batch), slots)
            mask = segmentation.probabilities(logits["segmentation"]) if segmentation else no_mask
            masks.append(transform.inverse(mask))
            own = classification.slice_probabilities(logits["classification"]) if classification else no_class
            classes.append(own)
            covered.append(coverage(transform, batch))
        weight = torch.cat(covered).sum(0).clamp_min(_LEAST_COVERAGE)
        mask, shares = torch.stack(masks).sum(0) / weight, torch.stack(classes).mean(0)
        return mask.cpu().numpy(), shares.cpu().numpy()


def _tensor(array: NDArray[np.floating[Any]], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.array(array, dtype=np.float32))
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return tensor.to(device, memory_format=layout)
