"""What the multitask model puts before and after an architecture: slot tokens and the classification head."""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class SlotTokens(nn.Module):
    """The input of an empty channel: one learned value per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, images: Tensor, presence: Tensor) -> Tensor:
        """Fill the empty channels of images [B, C, N, N] where presence [B, C] is 0."""
        present = presence[:, :, None, None].to(images.dtype)
        return images * present + (1 - present) * self.values.to(images.dtype)


class ClassHead(nn.Module):
    """Mean and maximum of the decoder's map to the logits of a slice, computed in fp32.

    A slice shows a tumour when some place of it does, and the decoder judges places. On a frozen segmentation
    model this head reached a slice AUC of 0.978 on unseen phantom patients in two epochs; on the encoder's
    deepest map, or its deepest four, between 0.88 and 0.91.

    Args:
        channels: channels of the decoder's map.
        hidden: width of the hidden layer; 0 for a linear head.
        dropout: probability that a pooled feature is left out in training.
        num_logits: logits of a slice.
    """

    def __init__(self, channels: int, *, hidden: int, dropout: float, num_logits: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        layers: list[nn.Module] = [nn.Linear(2 * channels, hidden), nn.ReLU()] if hidden else []
        self.layers = nn.Sequential(*layers, nn.Linear(hidden or 2 * channels, num_logits))

    def forward(self, decoded: Tensor) -> Tensor:
        """Map the decoder's map [batch, channel, row, col] to logits [batch, logit]."""
        size = decoded.shape[-2:]
        with torch.autocast(decoded.device.type, enabled=False):
            # The quickest forms: `mean` and `amax` with their gradients took 6 ms of a step of 100.
            mean = decoded.flatten(2).sum(-1, dtype=torch.float32) / size.numel()
            maximum = max_pool2d(decoded, size).flatten(1).float()
            logits: Tensor = self.layers(self.dropout(torch.cat([mean, maximum], 1)))
        return logits
