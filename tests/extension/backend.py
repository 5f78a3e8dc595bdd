"""A backend of another package: the model in bfloat16. Offered by this entry point:

[project.entry-points."slicewise.backends"]
bf16 = "backend:bf16"
"""

import torch
from torch import Tensor

from slicewise.config.schema.model import TaskName
from slicewise.inference.backends import Forward
from slicewise.models.checkpoint import Checkpoint


def bf16(checkpoint: Checkpoint, device: torch.device) -> Forward:
    """Return the forward pass of a checkpoint: images and presence to the logits of each task."""
    model = checkpoint.build().to(device)

    def forward(images: Tensor, presence: Tensor) -> dict[TaskName, Tensor]:
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(images, presence)
        return {name: tensor.float() for name, tensor in logits.items()}

    return forward
