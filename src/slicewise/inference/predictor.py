"""The only way a picture becomes a mask: evaluation, the command line and the demo all call this."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from slicewise.compute.device import DeviceName, choose_device, full_precision
from slicewise.config.schema.inference import PLAIN_INFERENCE, InferenceSettings
from slicewise.domain.labels import TASKS, Task
from slicewise.imaging.geometry import restore_to_volume
from slicewise.imaging.slicing import SlicedCase, extract_slices
from slicewise.imaging.volume import Volume
from slicewise.inference.aggregation import smooth_over_slices, tumour_probability
from slicewise.inference.tta import TTATransform, coverage, tta_transforms
from slicewise.models.checkpoint import Checkpoint, load_checkpoint

if TYPE_CHECKING:
    from slicewise.models.multitask import MultitaskModel

Floats = NDArray[np.float32]

_MM3_PER_ML = 1000.0


class SlicePredictions(NamedTuple):
    """Probabilities of S slices: `mask_probability` [S, N, N] and `class_probability` [S], in 0..1."""

    mask_probability: Floats
    class_probability: Floats


@dataclass(frozen=True)
class VolumePrediction:
    """A volume as the network sees it and as its owner knows it."""

    sliced: SlicedCase
    slices: SlicePredictions
    mask_probability: Floats
    """[slice, row, col] on the volume's own grid; 0 outside the brain and in the slices that were dropped."""
    tumour_probability: float
    """The highest slice probability after a running mean over three neighbouring slices."""
    volume_ml: float | None
    """Volume above the mask threshold in millilitres; None where the files tell no size of their voxels."""


class BasePredictor(ABC):
    """Whoever answers for slices answers for volumes and pictures: one network, or several as one.

    Attributes:
        checkpoints: whose networks answer; they share their preprocessing and the slot of a picture.
        device: where the networks run.
        asking: whether mirrored and turned images are asked about too, and neighbouring slices averaged.
        mask_threshold: a pixel from this probability on counts for `volume_ml`.
    """

    checkpoints: tuple[Checkpoint, ...]
    device: torch.device
    inference: InferenceSettings
    mask_threshold: float

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identity of what answers."""

    @property
    def synthetic(self) -> bool:
        """Whether a network has seen generated patients only."""
        return any(checkpoint.synthetic for checkpoint in self.checkpoints)

    @property
    def not_trained(self) -> tuple[Task, ...]:
        """Tasks that a network was never taught; what is answered to them means nothing."""
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
        """Return the probabilities of one case, whose neighbouring slices have a say in each other's answers.

        See `Predictor.predict_slices`; the slices come in their order.
        """
        predictions = self.predict_slices(images, presence, batch_size)
        masks, classes = predictions
        if self.inference.mask_smoothing:
            masks = smooth_over_slices(masks, self.inference.mask_smoothing)
            masks *= np.any(images != 0, axis=1)  # a neighbour's brain may reach farther
        if self.inference.class_smoothing:
            classes = smooth_over_slices(classes, self.inference.class_smoothing)
        return SlicePredictions(masks, classes)

    def predict_volume(self, volume: Volume, batch_size: int = 8) -> VolumePrediction:
        """Prepare a volume exactly as for training, predict its slices and put the mask back on its grid."""
        sliced = extract_slices(volume, self.checkpoints[0].preprocessing)
        slices = self.predict_stack(sliced.images, sliced.presence, batch_size)
        mask = restore_to_volume(slices.mask_probability, sliced.geometry)
        return VolumePrediction(
            sliced=sliced,
            slices=slices,
            mask_probability=mask,
            tumour_probability=tumour_probability(slices.class_probability),
            volume_ml=self._volume_ml(volume, mask),
        )

    def _volume_ml(self, volume: Volume, mask: Floats) -> float | None:
        if volume.orientation is None:
            return None
        voxel_ml = float(np.prod(volume.spacing)) / _MM3_PER_ML
        return float(np.count_nonzero(mask >= self.mask_threshold)) * voxel_ml


class Predictor(BasePredictor):
    """A checkpoint that answers. Nothing but the checkpoint is needed: it carries its own preprocessing.

    The network runs in fp32 and evaluation mode, so that a result depends neither on the caller nor on how
    slices are batched (up to the rounding of fp32). With flips or a rotation it is asked about several
    views of each slice, see `inference.views`, and the mean of their probabilities counts.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: DeviceName = "auto",
        *,
        mask_threshold: float = 0.5,
        inference: InferenceSettings = PLAIN_INFERENCE,
    ) -> None:
        self.checkpoint = checkpoint
        self.checkpoints = (checkpoint,)
        self.device = choose_device(device)
        self.mask_threshold = mask_threshold
        self.inference = inference
        self._transforms = tta_transforms(inference)
        self._program = checkpoint.build_program(self.device)
        if self._program is None:
            _ = self.model  # a checkpoint that does not fit its model is found now

    @cached_property
    def model(self) -> "MultitaskModel":
        """The network itself, for who needs more than its predictions (Grad-CAM)."""
        model = self.checkpoint.build().float().eval().requires_grad_(False)
        return model.to(memory_format=torch.channels_last).to(self.device)

    @classmethod
    def load(
        cls,
        path: Path | str,
        device: DeviceName = "auto",
        *,
        mask_threshold: float = 0.5,
        inference: InferenceSettings = PLAIN_INFERENCE,
    ) -> Self:
        """Read a checkpoint file.

        Raises:
            CheckpointError: the file is missing, damaged or not a SliceWise checkpoint.
        """
        return cls(load_checkpoint(Path(path)), device, mask_threshold=mask_threshold, inference=inference)

    @property
    def fingerprint(self) -> str:
        return self.checkpoint.fingerprint

    def predict_slices(
        self, images: NDArray[np.floating], presence: ArrayLike, batch_size: int = 8
    ) -> SlicePredictions:
        """Return the probabilities of prepared slices.

        Args:
            images: [S, 4, N, N] as `imaging.slicing.prepare` makes them; float16 and memory-mapped are fine.
            presence: which modality slots are filled, [4] for all slices or [S, 4].
            batch_size: slices per pass of the network; it changes speed and memory, not the result.
        """
        num_slices, size = len(images), images.shape[-1]
        slots = np.broadcast_to(np.asarray(presence, dtype=np.float32), (num_slices, images.shape[1]))
        masks = np.empty((num_slices, size, size), dtype=np.float32)
        classes = np.empty(num_slices, dtype=np.float32)
        with torch.inference_mode(), full_precision():
            for start in range(0, num_slices, batch_size):
                part = slice(start, start + batch_size)
                mask, tumour = self._predict_batch(self._tensor(images[part]), self._tensor(slots[part]))
                # Outside the brain the network was never right or wrong; nothing there is a tumour.
                inside = np.any(images[part] != 0, axis=1)
                masks[part] = mask.cpu().numpy() * inside
                classes[part] = tumour.cpu().numpy()
        return SlicePredictions(masks, classes)

    def _predict_batch(self, images: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the probabilities of the pixels [S, N, N] and of the slices [S]."""
        outputs = (self._predict_transformed(images, slots, transform) for transform in self._transforms)
        masks, classes = (torch.stack(parts) for parts in zip(*outputs, strict=True))
        covered = torch.cat([coverage(transform, images) for transform in self._transforms])
        return masks.sum(0) / covered[:, 0].sum(0), classes.mean(0)

    def _predict_transformed(
        self, images: torch.Tensor, slots: torch.Tensor, transform: TTATransform
    ) -> tuple[torch.Tensor, torch.Tensor]:
        program = self._program
        fits = program is not None and images.shape[-2:] == (program.size, program.size)
        mask, label = (program if program and fits else self.model)(transform.apply(images), slots)
        return transform.inverse(mask.sigmoid())[:, 0], label.sigmoid()

    def _tensor(self, array: NDArray[np.floating]) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(array, dtype=np.float32))
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        return tensor.to(self.device, memory_format=layout)
