"""A backend of another package: the model in bfloat16. Offered by this entry point:

[project.entry-points."slicewise.backends"]
bf16 = "backend:bf16"
"""

import torch
from torch import Tensor

from slicewise.inference.backends import Forward
from slicewise.models.checkpoint import Checkpoint


def bf16(checkpoint: Checkpoint, device: torch.device) -> Forward:
    """Return the forward pass of a checkpoint: images and presence to the logits of mask and class."""
    model = checkpoint.build().to(device)

    def forward(images: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16):
            mask, label = model(images, presence)
        return mask.float(), label.float()

    return forward
