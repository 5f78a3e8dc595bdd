"""Probabilities of prepared slices: the mean over models, and over test-time augmentation (TTA)."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from slicewise.compute.device import DeviceName, choose_device, full_precision
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.config.schema.model import TaskName
from slicewise.core.errors import CheckpointError
from slicewise.core.hashing import digest
from slicewise.inference.backends import BACKENDS, Forward, Torch
from slicewise.models.checkpoint import Checkpoint
from slicewise.tasks.base import Task
from slicewise.tasks.build import make_tasks

if TYPE_CHECKING:
    from slicewise.models.multitask import MultitaskModel

Floats = NDArray[np.float32]

_TRAINING_ONLY: Final = {"healthy_ratio", "max_train_slices"}
"""Keys of the preprocessing that choose slices for training and do not change the input"""
_NO_CLASSIFICATION: Final = 0.5
"""Probability of every slice where the model does not classify; it is not reported"""


class TTATransform(NamedTuple):
    """A left-right flip if `flipped`, then a counter-clockwise rotation by `degrees`."""

    flipped: bool = False
    degrees: float = 0.0

    def apply(self, images: Tensor) -> Tensor:
        """Return transformed images [batch, channel, row, col]; pixels from outside the slice are 0."""
        return _rotate(images.flip(-1) if self.flipped else images, self.degrees)

    def inverse(self, outputs: Tensor) -> Tensor:
        """Return outputs for the transformed slice [batch, channel, row, col] on the grid of the slice."""
        outputs = _rotate(outputs, -self.degrees)
        return outputs.flip(-1) if self.flipped else outputs


def coverage(transform: TTATransform, images: Tensor) -> Tensor:
    """Return the share of each pixel that stays in view, [1, 1, row, col]."""
    return transform.inverse(transform.apply(torch.ones_like(images[:1, :1])))


def tta_transforms(inference: InferenceSettings) -> tuple[TTATransform, ...]:
    """Return the transforms of the settings, identity first."""
    angles = (0.0, inference.rotation, -inference.rotation) if inference.rotation else (0.0,)
    return tuple(
        TTATransform(flipped, angle) for flipped in (False, True)[: 1 + inference.flips] for angle in angles
    )


def _rotate(images: Tensor, degrees: float) -> Tensor:
    if not degrees:
        return images
    from torchvision.transforms.functional import InterpolationMode, rotate

    rotated: Tensor = rotate(images, degrees, InterpolationMode.BILINEAR)
    return rotated


class SlicePredictions(NamedTuple):
    """Probabilities of S slices: `mask_probability` [S, N, N] and `class_probability` [S], in 0..1."""

    mask_probability: Floats
    class_probability: Floats


class Predictor:
    """One model, or several as an ensemble: the mean of their probabilities (Hansen and Salamon 1990).

    The models run in fp32 and evaluation mode, so that a result depends neither on the caller nor on how
    slices are batched (up to the rounding of fp32).

    Args:
        checkpoints: one or more; each predicts every slice.
        device: where they run.
        backend: what runs them, a name of `inference.backends.BACKENDS`.
        inference: test-time augmentation, and smoothing over neighbouring slices.
        batch_size: slices per forward pass.
        names: of the models in messages; by default their fingerprints.

    Raises:
        CheckpointError: the inputs of the models differ.
        UsageError: the machine has no such device.
    """

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        device: DeviceName,
        *,
        backend: str,
        inference: InferenceSettings,
        batch_size: int,
        names: Sequence[str] = (),
    ) -> None:
        _require_same_input(checkpoints, names)
        self.checkpoints = tuple(checkpoints)
        self.device, self.inference, self.batch_size = choose_device(device), inference, batch_size
        self.tasks = make_tasks(checkpoints[0].tasks)
        _require_single_class(self.tasks)
        self._transforms = tta_transforms(inference)
        self._members: list[Forward] = [BACKENDS[backend](each, self.device) for each in checkpoints]

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the model; of an ensemble whatever the order of its models."""
        first, *others = sorted(checkpoint.fingerprint for checkpoint in self.checkpoints)
        return digest([first, *others]) if others else first

    @property
    def synthetic(self) -> bool:
        """Whether any model was trained on generated patients only."""
        return any(checkpoint.synthetic for checkpoint in self.checkpoints)

    @cached_property
    def model(self) -> "MultitaskModel":
        """The (first) model itself, for uses beyond prediction (Grad-CAM)."""
        member = self._members[0]
        return (member if isinstance(member, Torch) else Torch(self.checkpoints[0], self.device)).model

    def predict_stack(
        self,
        images: NDArray[np.floating[Any]],
        presence: ArrayLike,
        included: NDArray[np.bool_] | None = None,
    ) -> SlicePredictions:
        """Return the probabilities of one case's slices in their order, smoothed over neighbouring slices.

        A model sees one slice at a time and not the next one, where most tumours continue. The weights are a
        Gaussian's, whose sigma `inference` gives in slices. Excluded slices are left out, and get 0.
        """
        if included is not None and not included.all():
            masks = np.zeros((len(images), *images.shape[2:]), np.float32)
            classes = np.zeros(len(images), np.float32)
            masks[included], classes[included] = self.predict_stack(images[included], presence)
            return SlicePredictions(masks, classes)
        masks, classes = self.predict_slices(images, presence)
        if self.inference.mask_smoothing:
            masks = gaussian_filter1d(masks, self.inference.mask_smoothing, axis=0, mode="nearest")
            masks *= np.any(images != 0, axis=1)  # a neighbour's brain may reach farther
        if self.inference.class_smoothing:
            classes = gaussian_filter1d(classes, self.inference.class_smoothing, axis=0, mode="nearest")
        return SlicePredictions(masks, classes)

    def predict_slices(self, images: NDArray[np.floating[Any]], presence: ArrayLike) -> SlicePredictions:
        """Return the probabilities of prepared slices, the mean over models and augmentations.

        Args:
            images: [S, 4, N, N] from `imaging.slicing.extract_slices`; float16 and memory-mapped are fine.
            presence: which modality slots are filled, [4] for all slices or [S, 4].
        """
        num_slices, size = len(images), images.shape[-1]
        slots = np.broadcast_to(np.asarray(presence, dtype=np.float32), (num_slices, images.shape[1]))
        masks = np.zeros((num_slices, size, size), dtype=np.float32)
        classes = np.zeros(num_slices, dtype=np.float32)
        with torch.inference_mode(), full_precision():
            for start in range(0, num_slices, self.batch_size):
                part = slice(start, start + self.batch_size)
                batch, filled = self._tensor(images[part]), self._tensor(slots[part])
                # No loss was computed outside the brain; nothing there is a tumour.
                inside = np.any(images[part] != 0, axis=1)
                for member in self._members:
                    mask, tumour = self._augmented(member, batch, filled)
                    masks[part] += mask.cpu().numpy() * inside
                    classes[part] += tumour.cpu().numpy()
        count = np.float32(len(self._members))
        return SlicePredictions(masks / count, classes / count)

    def _augmented(self, forward: Forward, images: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return one model's probabilities of the pixels [S, N, N] and of the slices [S]."""
        masks, classes, covered = [], [], []
        no_mask, no_class = torch.zeros_like(images[:, :1]), torch.full_like(slots[:, :1], _NO_CLASSIFICATION)
        for transform in self._transforms:
            logits = forward(transform.apply(images), slots)
            found = {name: task.probabilities(logits[name]) for name, task in self.tasks.items()}
            masks.append(transform.inverse(found.get("segmentation", no_mask))[:, 0])
            classes.append(found.get("classification", no_class)[:, 0])
            covered.append(coverage(transform, images)[:, 0])
        return torch.stack(masks).sum(0) / torch.cat(covered).sum(0), torch.stack(classes).mean(0)

    def _tensor(self, array: NDArray[np.floating[Any]]) -> Tensor:
        tensor = torch.from_numpy(np.array(array, dtype=np.float32))
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        return tensor.to(self.device, memory_format=layout)


def _require_same_input(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> None:
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


def _input_signature(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what decides the numbers that go into the model, and what its outputs mean."""
    settings = checkpoint.preprocessing.model_dump(exclude=_TRAINING_ONLY)
    layers = (tensor for name, tensor in checkpoint.weights.items() if name.startswith("encoder."))
    return {
        **{f"preprocessing.{key}": value for key, value in settings.items()},
        "the number of input channels": next(layer.shape[1] for layer in layers if layer.ndim == 4),
        "data.sources.pictures.slot": checkpoint.slot,
        "the list of tasks": checkpoint.tasks,
    }


def _require_single_class(tasks: Mapping[TaskName, Task]) -> None:
    """Raise CheckpointError for several classes, which postprocessing and evaluation would mix up."""
    absence = {"segmentation": 0, "classification": 1}
    for name, task in tasks.items():
        if len(task.classes) - absence[name] > 1:
            raise CheckpointError(
                f"the model has tasks.{name}.classes=[{','.join(task.classes)}], but prediction and "
                "evaluation handle a single class beside background or absence; train one with such a "
                f"tasks.{name}.classes"
            )
