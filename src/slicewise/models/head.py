"""The classification head."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

_NUM_LEVELS: Final = 3


class ClassHead(nn.Module):
    """Pooled encoder features to one tumour logit, computed in fp32.

    The mean and the maximum of the three deepest levels are standardised, then classified. The deepest level
    alone is enough where it learns with the head; of a frozen segmentation encoder it tells too little about
    small tumours, which skip connections served.

    Args:
        channels: channels of the feature maps, shallow to deep.
        hidden: width of the hidden layer; 0 for a linear head.
        dropout: probability that a feature is left out in training.
    """

    def __init__(self, channels: Sequence[int], *, hidden: int, dropout: float) -> None:
        super().__init__()
        width = 2 * sum(channels[-_NUM_LEVELS:])
        self.normalise = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(*_layers(width, hidden))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map feature maps [batch, channel, row, col], shallow to deep, to logits [batch]."""
        maps = [level.float() for level in features[-_NUM_LEVELS:]]
        with torch.autocast(maps[-1].device.type, enabled=False):
            pooled = [pool for level in maps for pool in (level.mean((2, 3)), level.amax((2, 3)))]
            logits: Tensor = self.layers(self.dropout(self.normalise(torch.cat(pooled, 1))))
        return logits[:, 0]


def _layers(width: int, hidden: int) -> list[nn.Module]:
    if hidden == 0:
        return [nn.Linear(width, 1)]
    return [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1)]
