"""A loss of another package: the sensitivity-weighted squared error of Brosch et al. (2015).

Its pyproject.toml offers it:

    [project.entry-points."slicewise.losses"]
    sensitivity = "loss:sensitivity"

and `training.mask_loss.sensitivity=1` uses it.
"""

from torch import Tensor

from slicewise.config.schema.model import SegmentationSettings
from slicewise.core.errors import ConfigError
from slicewise.tasks.base import Loss

_SENSITIVITY = 0.05


def sensitivity(task: SegmentationSettings) -> Loss:
    """Return the loss of a task: logits and targets [B, class, row, col] to a scalar."""
    if task.activation != "sigmoid":
        raise ConfigError(
            "training.mask_loss.sensitivity needs tasks.segmentation.activation=sigmoid; set it, or set the "
            "weight to 0"
        )
    return weighted_error


def weighted_error(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared errors inside and outside the masks, weighted 0.05 to 0.95."""
    errors, outside = (targets - logits.sigmoid()).square(), 1 - targets
    parts = [(errors * area).sum() / (area.sum() + 1e-6) for area in (targets, outside)]
    return _SENSITIVITY * parts[0] + (1 - _SENSITIVITY) * parts[1]
