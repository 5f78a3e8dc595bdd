"""Prediction of masks and tumour probabilities; evaluation, command line and demo all use it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from slicewise.compute.device import DeviceName, choose_device, full_precision
from slicewise.config.schema.evaluation import PLAIN_INFERENCE, InferenceSettings
from slicewise.domain.labels import TASKS, Task
from slicewise.imaging.geometry import restore_to_volume
from slicewise.imaging.slicing import SlicedCase, extract_slices
from slicewise.imaging.volume import Volume
from slicewise.inference.tta import coverage, tta_transforms
from slicewise.models.checkpoint import Checkpoint, load_checkpoint

if TYPE_CHECKING:
    from slicewise.models.multitask import MultitaskModel

Floats = NDArray[np.float32]


class SlicePredictions(NamedTuple):
    """Probabilities of S slices: `mask_probability` [S, N, N] and `class_probability` [S], in 0..1."""

    mask_probability: Floats
    class_probability: Floats


@dataclass(frozen=True)
class VolumePrediction:
    """The slices of a volume and their probabilities; `prediction.postprocess_volume` thresholds them."""

    sliced: SlicedCase
    slices: SlicePredictions

    @property
    def mask_probability(self) -> Floats:
        """[slice, row, col] on the volume's own grid; 0 outside the brain and in excluded slices."""
        return restore_to_volume(self.slices.mask_probability, self.sliced.geometry)


class BasePredictor(ABC):
    """Prediction by one model, or by several as one.

    Attributes:
        checkpoints: those of the models; they share preprocessing and the slot of a picture.
        device: where the models run.
        inference: test-time augmentation, and smoothing over neighbouring slices.
    """

    checkpoints: tuple[Checkpoint, ...]
    device: torch.device
    inference: InferenceSettings

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identity of the models."""

    @property
    def synthetic(self) -> bool:
        """Whether any model was trained on generated patients only."""
        return any(checkpoint.synthetic for checkpoint in self.checkpoints)

    @property
    def not_trained(self) -> tuple[Task, ...]:
        """Tasks that some model was not trained for: predictions for them mean nothing."""
        return tuple(
            task for task in TASKS if any(task in checkpoint.not_trained for checkpoint in self.checkpoints)
        )

    @abstractmethod
    def predict_slices(
        self, images: NDArray[np.floating], presence: ArrayLike, batch_size: int = 8
    ) -> SlicePredictions:
        """Return the probabilities of prepared slices; see `Predictor.predict_slices`."""

    def predict_stack(
        self, images: NDArray[np.floating], presence: ArrayLike, batch_size: int = 8
    ) -> SlicePredictions:
        """Return the probabilities of one case's slices in their order, smoothed over neighbouring slices.

        A model sees one slice at a time and not the next one, where most tumours continue. The weights are a
        Gaussian's, whose sigma `inference` gives in slices. See `Predictor.predict_slices` for the arguments.
        """
        masks, classes = self.predict_slices(images, presence, batch_size)
        if self.inference.mask_smoothing:
            masks = gaussian_filter1d(masks, self.inference.mask_smoothing, axis=0, mode="nearest")
            masks *= np.any(images != 0, axis=1)  # a neighbour's brain may reach farther
        if self.inference.class_smoothing:
            classes = gaussian_filter1d(classes, self.inference.class_smoothing, axis=0, mode="nearest")
        return SlicePredictions(masks, classes)

    def predict_volume(self, volume: Volume, batch_size: int = 8) -> VolumePrediction:
        """Prepare a volume exactly as for training, and predict its slices."""
        sliced = extract_slices(volume, self.checkpoints[0].preprocessing)
        return VolumePrediction(sliced, self.predict_stack(sliced.images, sliced.presence, batch_size))


class Predictor(BasePredictor):
    """Prediction by one checkpoint, which carries all that is needed.

    The model runs in fp32 and evaluation mode, so that a result depends neither on the caller nor on how
    slices are batched (up to the rounding of fp32). With test-time augmentation (`inference.tta`) the mean of
    the probabilities counts.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: DeviceName = "auto",
        *,
        inference: InferenceSettings = PLAIN_INFERENCE,
    ) -> None:
        self.checkpoint = checkpoint
        self.checkpoints = (checkpoint,)
        self.device = choose_device(device)
        self.inference = inference
        self._transforms = tta_transforms(inference)
        self._program = checkpoint.build_program(self.device)
        if self._program is None:
            _ = self.model  # a checkpoint that does not fit its model is reported now

    @cached_property
    def model(self) -> "MultitaskModel":
        """The model itself, for uses beyond prediction (Grad-CAM)."""
        model = self.checkpoint.build().float().eval().requires_grad_(False)
        return model.to(memory_format=torch.channels_last).to(self.device)

    @classmethod
    def load(
        cls, path: Path | str, device: DeviceName = "auto", *, inference: InferenceSettings = PLAIN_INFERENCE
    ) -> Self:
        """Read a checkpoint file.

        Raises:
            CheckpointError: the file is missing, damaged or not a SliceWise checkpoint.
        """
        return cls(load_checkpoint(Path(path)), device, inference=inference)

    @property
    def fingerprint(self) -> str:
        return self.checkpoint.fingerprint

    def predict_slices(
        self, images: NDArray[np.floating], presence: ArrayLike, batch_size: int = 8
    ) -> SlicePredictions:
        """Return the probabilities of prepared slices.

        Args:
            images: [S, 4, N, N] from `imaging.slicing.extract_slices`; float16 and memory-mapped are fine.
            presence: which modality slots are filled, [4] for all slices or [S, 4].
            batch_size: inference batch size; it changes speed and memory, not the result.
        """
        num_slices, size = len(images), images.shape[-1]
        slots = np.broadcast_to(np.asarray(presence, dtype=np.float32), (num_slices, images.shape[1]))
        masks = np.empty((num_slices, size, size), dtype=np.float32)
        classes = np.empty(num_slices, dtype=np.float32)
        with torch.inference_mode(), full_precision():
            for start in range(0, num_slices, batch_size):
                part = slice(start, start + batch_size)
                mask, tumour = self._predict_batch(self._tensor(images[part]), self._tensor(slots[part]))
                # No loss was computed outside the brain; nothing there is a tumour.
                inside = np.any(images[part] != 0, axis=1)
                masks[part] = mask.cpu().numpy() * inside
                classes[part] = tumour.cpu().numpy()
        return SlicePredictions(masks, classes)

    def _predict_batch(self, images: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the probabilities of the pixels [S, N, N] and of the slices [S]."""
        program = self._program
        fits = program is not None and images.shape[-2:] == (program.size, program.size)
        model: Callable[..., Any] = program if program and fits else self.model
        masks, classes, covered = [], [], []
        for transform in self._transforms:
            mask, label = model(transform.apply(images), slots)
            masks.append(transform.inverse(mask.sigmoid())[:, 0])
            classes.append(label.sigmoid())
            covered.append(coverage(transform, images)[:, 0])
        return torch.stack(masks).sum(0) / torch.cat(covered).sum(0), torch.stack(classes).mean(0)

    def _tensor(self, array: NDArray[np.floating]) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(array, dtype=np.float32))
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        return tensor.to(self.device, memory_format=layout)
