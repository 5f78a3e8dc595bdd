"""Backends: what runs a checkpoint's forward pass. Other packages add theirs as `slicewise.backends`."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from slicewise.config.schema.model import TaskName
from slicewise.core.registry import Registry
from slicewise.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from slicewise.models.multitask import MultitaskModel

Forward = Callable[[Tensor, Tensor], Mapping[TaskName, Tensor]]
"""From images [B, 4, N, N] and presence [B, 4], fp32 on the pipeline's device, to the logits of each task
of the checkpoint: segmentation [B, channel, N, N], classification [B, channel]"""
Backend = Callable[[Checkpoint, torch.device], Forward]

BACKENDS: Final[Registry[Backend]] = Registry("backends", {"torch": "slicewise.inference.backends:Torch"})


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
