"""What a prediction is the mean of: flips and rotations (test-time augmentation, TTA), and models."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.errors import CheckpointError
from slicewise.runtime.bundle import Bundle

if TYPE_CHECKING:
    from torch import Tensor

    from slicewise.models.checkpoint import Checkpoint

_TRAINING_ONLY: Final = {"healthy_ratio", "max_train_slices"}
"""Keys of the preprocessing that choose slices for training and do not change the input"""


class TTATransform(NamedTuple):
    """A left-right flip if `flipped`, then a counter-clockwise rotation by `degrees`."""

    flipped: bool = False
    degrees: float = 0.0

    def apply(self, images: "Tensor") -> "Tensor":
        """Return transformed images [batch, channel, row, col]; pixels from outside the slice are 0."""
        return _rotate(images.flip(-1) if self.flipped else images, self.degrees)

    def inverse(self, outputs: "Tensor") -> "Tensor":
        """Return outputs for the transformed slice [batch, channel, row, col] on the grid of the slice."""
        outputs = _rotate(outputs, -self.degrees)
        return outputs.flip(-1) if self.flipped else outputs


SPREAD: Final = (
    TTATransform(),
    TTATransform(flipped=True),
    TTATransform(False, 5.0),
    TTATransform(False, -5.0),
)
"""The passes of a single model without augmentation whose spread is its uncertainty"""


def coverage(transform: TTATransform, images: "Tensor") -> "Tensor":
    """Return the share of each pixel that stays in view, [1, 1, row, col]."""
    return transform.inverse(transform.apply(images.new_ones((1, 1, *images.shape[-2:]))))


def tta_transforms(inference: InferenceSettings) -> tuple[TTATransform, ...]:
    """Return the transforms of the settings, identity first."""
    angles = (0.0, inference.rotation, -inference.rotation) if inference.rotation else (0.0,)
    return tuple(
        TTATransform(flipped, angle) for flipped in (False, True)[: 1 + inference.flips] for angle in angles
    )


def _rotate(images: "Tensor", degrees: float) -> "Tensor":
    if not degrees:
        return images
    from torchvision.transforms.functional import InterpolationMode, rotate

    rotated: Tensor = rotate(images, degrees, InterpolationMode.BILINEAR)
    return rotated


def require_same_input(checkpoints: "Sequence[Checkpoint | Bundle]", names: Sequence[str]) -> None:
    """Raise CheckpointError that names the models whose inputs differ, and what differs."""
    if not checkpoints:
        raise CheckpointError("an ensemble needs at least one checkpoint; name some")
    names = names or [checkpoint.fingerprint[:12] for checkpoint in checkpoints]
    first, mismatches = _input_signature(checkpoints[0]), []
    for checkpoint, name in zip(checkpoints[1:], names[1:], strict=True):
        other = _input_signature(checkpoint)
        differing = [
            f"{key} is {other[key]} and not {first[key]}" for key in first if other[key] != first[key]
        ]
        if differing:
            mismatches.append(f"{name}, where {', '.join(differing)}")
    if mismatches:
        raise CheckpointError(
            f"models with different inputs cannot form an ensemble: {names[0]} differs from "
            f"{'; '.join(mismatches)}; train all of them with the same settings"
        )


def _input_signature(checkpoint: "Checkpoint | Bundle") -> dict[str, Any]:
    """Return what decides the numbers that go into the model, and what its outputs mean."""
    settings = checkpoint.preprocessing.model_dump(exclude=_TRAINING_ONLY)
    weights = () if isinstance(checkpoint, Bundle) else checkpoint.weights.items()
    counts = (each.shape[1] for name, each in weights if name.startswith("encoder.") and each.ndim == 4)
    return {
        **{f"preprocessing.{key}": value for key, value in settings.items()},
        "the number of input channels": next(counts, len(checkpoint.preprocessing.channels)),
        "data.sources.pictures.slot": checkpoint.slot,
        "the list of tasks": checkpoint.tasks,
    }
