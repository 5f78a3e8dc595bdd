"""`Pipeline`: from files, arrays or stored slices to a `Prediction`.

Command line, API and evaluation predict through it, so a file has one prediction:

    pipeline = Pipeline.load("checkpoints/multitask_joint/best_model.pth")
    prediction = pipeline.predict("BraTS20_Training_001/")
    print(prediction.verdict, prediction.tumour_probability, prediction.volume_ml)
"""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from slicewise.compute.device import DeviceName, choose_device, full_precision
from slicewise.config.schema import Evaluation
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.errors import DataError
from slicewise.core.hashing import digest
from slicewise.data.cases import CaseFiles
from slicewise.data.inputs import DefaultModalities, find_inputs
from slicewise.data.problems import Problem
from slicewise.data.store import StoredCase
from slicewise.domain.classes import TUMOUR, TUMOUR_OR_NOT
from slicewise.domain.labels import Modality
from slicewise.imaging.slicing import SlicedCase
from slicewise.inference import ensemble
from slicewise.inference.backends import BACKENDS, Forward, Torch
from slicewise.inference.operating_points import (
    InputKind,
    OperatingPoints,
    default_operating_points,
    find_operating_points,
)
from slicewise.inference.postprocess import Postprocessing
from slicewise.inference.prediction import Prediction, SlicePredictions
from slicewise.inference.prepared_case import Input, PreparedCase, prepare_case
from slicewise.models.checkpoint import Checkpoint, load_checkpoint
from slicewise.tasks.build import find_classification, find_segmentation, make_tasks

if TYPE_CHECKING:
    from slicewise.models.multitask import MultitaskModel

_ENSEMBLE: Final = "every fold chose thresholds for its own model, and none were chosen for the ensemble"
_LEAST_COVERAGE: Final = 1e-6  # of a pixel that a single rotation takes out of view: its probability is 0
_NO_CLASSIFICATION: Final = 0.5  # of every slice where the model does not classify; not reported


class Pipeline:
    """Preprocessing, model, test-time augmentation, calibration, thresholds and post-processing as one.

    Several models are an ensemble: the mean of their probabilities (Hansen and Salamon 1990). They run in
    fp32 and evaluation mode, so that a result depends neither on the caller nor on how slices are batched (up
    to the rounding of fp32).

    Args:
        checkpoints: one or more; each predicts every slice.
        settings: batch size, and inference and thresholds where they are not given.
        device: where the models run.
        backend: what runs them, a name of `inference.backends.BACKENDS`.
        inference: test-time augmentation, and smoothing over neighbouring slices.
        points: calibration, thresholds and post-processing.
        paths: of the checkpoint files.

    Raises:
        CheckpointError: the inputs of the models differ.
        UsageError: the machine has no such device.
    """

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        settings: Evaluation,
        *,
        device: DeviceName = "auto",
        backend: str = "torch",
        inference: InferenceSettings | None = None,
        points: OperatingPoints | None = None,
        paths: Sequence[Path] = (),
    ) -> None:
        ensemble.require_same_input(checkpoints, [str(path) for path in paths])
        self.checkpoints, self.paths = tuple(checkpoints), tuple(paths)
        self.device, self.batch_size = choose_device(device), settings.batch_size
        self.inference = settings.inference if inference is None else inference
        self.tasks = make_tasks(checkpoints[0].tasks)
        segmentation, self._classification = find_segmentation(self.tasks), find_classification(self.tasks)
        self.classes = segmentation.class_set if segmentation else TUMOUR
        self.slice_classes = self._classification.class_set if self._classification else TUMOUR_OR_NOT
        counts = [len(self.slice_classes.with_absence)] if self.slice_classes.several else []
        self._class_shape: tuple[int, ...] = tuple(counts)
        settings = settings.suited_to(checkpoints[0].tasks.classification)
        self.transforms = ensemble.tta_transforms(self.inference)
        self._members: list[Forward] = [BACKENDS[backend](each, self.device) for each in checkpoints]
        self.points = points or default_operating_points(
            Postprocessing.configured(settings), "none were chosen"
        )

    @classmethod
    def load(
        cls,
        checkpoint: Path | str | Sequence[Path | str],
        *,
        device: DeviceName = "auto",
        backend: str = "torch",
        settings: Evaluation | None = None,
        **overrides: Any,
    ) -> Self:
        """Read a checkpoint, or several as an ensemble, and the operating points of its evaluation.

        These are read from the `calibration.json` beside the checkpoint, or in the results of the workspace
        around it; `points` says where they come from, or why there are none.

        Args:
            checkpoint: a `best_model.pth`, or several.
            device: where the models run.
            backend: what runs them.
            settings: the section `evaluation` for all that was not selected; by default that of configs/.
            overrides: keys of this section that hold whatever was selected: `class_threshold`,
                `uncertain_band`, `mask_threshold`, `min_component`, `component_share`, and the fields of
                `InferenceSettings`.

        Raises:
            CheckpointError: a file is missing, damaged or no checkpoint, or the inputs of the models differ.
            ConfigError: a key or a value of `overrides` is unknown or invalid.
            UsageError: the machine has no such device.
            WorkspaceError: `calibration.json` is damaged.
        """
        if settings is None:
            from slicewise.config.compose import compose

            settings = compose([f"evaluation.{key}={value}" for key, value in overrides.items()]).evaluation
        settings = settings.model_copy(update=overrides)
        paths = [Path(each) for each in ([checkpoint] if isinstance(checkpoint, Path | str) else checkpoint)]
        loaded = [load_checkpoint(path) for path in paths]
        settings = settings.suited_to(loaded[0].tasks.classification)
        if settings.class_threshold is None:
            overrides.pop("class_threshold", None)
        configured = Postprocessing.configured(settings)
        if len(loaded) == 1:
            points = find_operating_points(paths[0], loaded[0].weights_digest, configured, overrides)
        else:
            points = default_operating_points(configured, _ENSEMBLE)
        chosen: dict[str, Any] = {"inference": points.inference, "points": points}
        return cls(loaded, settings, device=device, backend=backend, paths=paths, **chosen)

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

    @property
    def slot(self) -> str:
        """The modality slot of a picture of unknown sequence."""
        return self.checkpoints[0].slot

    def to_json(self) -> dict[str, Any]:
        """Return the checkpoints, the settings of inference and the operating points."""
        checkpoints = [
            {"path": str(path), "fingerprint": each.fingerprint, "stage": each.stage, "data": each.data_name}
            for path, each in zip(self.paths, self.checkpoints, strict=True)
        ]
        return {
            "fingerprint": self.fingerprint,
            "synthetic": self.synthetic,
            "tasks": [*self.tasks],
            "checkpoints": checkpoints,
            **self.inference._asdict(),
            "operating_points": self.points.to_json(),
        }

    def find(
        self, paths: Sequence[Path], modality: Modality | None = None
    ) -> tuple[list[CaseFiles], list[Problem]]:
        """Return cases and problems, see `data.inputs.find_inputs`; `modality` of files that state none."""
        channels = self.checkpoints[0].preprocessing.channels
        return find_inputs(paths, DefaultModalities(modality, modality or self.slot, channels))

    def predict(
        self,
        case: Input,
        *,
        channels: Modality | Sequence[Modality] | None = None,
        spacing: Sequence[float] | None = None,
        kind: InputKind | None = None,
        skull_strip: bool = False,
        strict: bool = False,
    ) -> Prediction:
        """Return the prediction for one case.

        Args:
            case: a file or folder (a picture, a volume, a patient's folder, a folder of kaggle_3m), the files
                of a case (`find`, `read_case`), a `Volume`, a stored case, or an array: a picture [row, col],
                a volume [slice, row, col], or several modalities [channel, slice, row, col]; slices from the
                feet to the head, row 0 anterior, column 0 the patient's right.
            channels: modality of a file whose name does not state one; of an array, one for each channel.
            spacing: of an array, the mm between voxels along (slice, row, col).
            kind: of a `Volume`, whose thresholds apply; by default a picture's if it has a single slice.
            skull_strip: remove the skull of a volume first (`inference.skull_strip`).
            strict: refuse a case that something speaks against (`Prediction.doubts`); a stored case is not
                checked.

        Raises:
            DataError: a file is damaged, the files do not fit together, or a path holds no case or several;
                an array has another shape or type, or holds NaN; with `strict` also a case with doubts.
        """
        prepared = self.prepare(case, channels=channels, spacing=spacing, kind=kind, skull_strip=skull_strip)
        if strict and prepared.doubts:
            names = [f"{path}: " for path in (prepared.files.images[:1] if prepared.files else ())]
            raise DataError("".join(names) + "; ".join(prepared.doubts))
        return self.complete(prepared, self.infer(prepared.slices))

    def prepare(
        self,
        case: Input,
        *,
        channels: Modality | Sequence[Modality] | None = None,
        spacing: Sequence[float] | None = None,
        kind: InputKind | None = None,
        skull_strip: bool = False,
    ) -> PreparedCase:
        """Return what the models are given for a case; arguments and errors are those of `predict`."""
        return prepare_case(
            case,
            self.checkpoints[0].preprocessing,
            self.slot,
            self.checkpoints[0].reference,
            channels=channels,
            spacing=spacing,
            kind=kind,
            skull_strip=skull_strip,
        )

    def infer(self, slices: SlicedCase | StoredCase) -> SlicePredictions:
        """Return the probabilities of the slices of one case."""
        if slices.geometry.is_tiled:  # tiles are no neighbours to smooth over
            return self.predict_slices(slices.images, slices.presence)
        return self.predict_stack(slices.images, slices.presence, slices.included)

    def complete(self, prepared: PreparedCase, outputs: SlicePredictions) -> Prediction:
        """Return the prediction for a case from the probabilities of its slices."""
        return Prediction(
            slices=prepared.slices,
            mask_probability=outputs.mask_probability,
            class_probability=outputs.class_probability,
            kind=prepared.kind,
            point=self.points.of(prepared.kind),
            tasks=(*self.tasks,),
            classes=self.classes,
            slice_classes=self.slice_classes,
            spacing=prepared.spacing,
            orientation=prepared.orientation,
            files=prepared.files,
            fingerprint=self.fingerprint,
            synthetic=self.synthetic,
            warnings=prepared.warnings,
            doubts=prepared.doubts,
        )

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
            masks = np.zeros((len(images), len(self.classes), *images.shape[2:]), np.float32)
            classes = np.zeros((len(images), *self._class_shape), np.float32)
            masks[included], classes[included] = self.predict_stack(images[included], presence)
            return SlicePredictions(masks, classes)
        masks, classes = self.predict_slices(images, presence)
        if self.inference.mask_smoothing:
            masks = gaussian_filter1d(masks, self.inference.mask_smoothing, axis=0, mode="nearest")
            masks *= np.any(images != 0, axis=1, keepdims=True)  # a neighbour's brain may reach farther
        if self.inference.class_smoothing:
            classes = gaussian_filter1d(classes, self.inference.class_smoothing, axis=0, mode="nearest")
        return SlicePredictions(masks, classes)

    def predict_slices(self, images: NDArray[np.floating[Any]], presence: ArrayLike) -> SlicePredictions:
        """Return the probabilities of prepared slices, the mean over models and augmentations.

        Images are [S, 4, N, N] from `imaging.slicing.extract_slices`, float16 and memory-mapped ones too;
        presence says which modality slots are filled, [4] for all slices or [S, 4].
        """
        num_slices, size = len(images), images.shape[-1]
        slots = np.broadcast_to(np.asarray(presence, dtype=np.float32), (num_slices, images.shape[1]))
        masks = np.zeros((num_slices, len(self.classes), size, size), dtype=np.float32)
        classes = np.zeros((num_slices, *self._class_shape), dtype=np.float32)
        with torch.inference_mode(), full_precision():
            for start in range(0, num_slices, self.batch_size):
                part = slice(start, start + self.batch_size)
                batch, filled = self._tensor(images[part]), self._tensor(slots[part])
                # No loss was computed outside the brain; nothing there is a tumour.
                inside = np.any(images[part] != 0, axis=1, keepdims=True)
                for member in self._members:
                    mask, shares = self._augmented(member, batch, filled)
                    masks[part] += mask.cpu().numpy() * inside
                    classes[part] += shares.cpu().numpy()
        count = np.float32(len(self._members))
        return SlicePredictions(masks / count, classes / count)

    def single_pass(self, model: int, transform: ensemble.TTATransform) -> Self:
        """Return this pipeline with one of its models and one augmentation alone."""
        one = copy(self)
        one._members, one.transforms = [self._members[model]], (transform,)
        return one

    def _augmented(self, forward: Forward, images: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return one model's probabilities of the pixels [S, K, N, N] and of the slices [S] or [S, C]."""
        masks, classes, covered = [], [], []
        no_mask, no_class = torch.zeros_like(images[:, :1]), torch.full_like(slots[:, 0], _NO_CLASSIFICATION)
        segmentation, classification = find_segmentation(self.tasks), self._classification
        for transform in self.transforms:
            logits = forward(transform.apply(images), slots)
            mask = segmentation.probabilities(logits["segmentation"]) if segmentation else no_mask
            masks.append(transform.inverse(mask))
            own = classification.slice_probabilities(logits["classification"]) if classification else no_class
            classes.append(own)
            covered.append(ensemble.coverage(transform, images))
        weight = torch.cat(covered).sum(0).clamp_min(_LEAST_COVERAGE)
        return torch.stack(masks).sum(0) / weight, torch.stack(classes).mean(0)

    def _tensor(self, array: NDArray[np.floating[Any]]) -> Tensor:
        tensor = torch.from_numpy(np.array(array, dtype=np.float32))
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        return tensor.to(self.device, memory_format=layout)
