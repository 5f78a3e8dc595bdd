"""`Pipeline`: from files, arrays or stored slices to a `Prediction`.

Command line, API and evaluation predict through it, so a file has one prediction:

    Pipeline.load("checkpoints/multitask_joint/best_model.pth").predict("BraTS20_Training_001/").verdict
"""

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.config.schema import Evaluation
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.errors import DataError
from slicewise.core.hashing import digest
from slicewise.data.cases import CaseFiles
from slicewise.data.inputs import DefaultModalities, find_inputs
from slicewise.data.problems import Problem
from slicewise.data.store import StoredCase
from slicewise.domain.classes import TUMOUR, TUMOUR_OR_NOT, Classes
from slicewise.domain.labels import Modality
from slicewise.imaging.slicing import SlicedCase
from slicewise.inference import ensemble
from slicewise.inference.backends import Averages, Floats, Member
from slicewise.inference.choice import load_models, make_members, model_of, settings_for
from slicewise.inference.operating_points import (
    InputKind,
    OperatingPoints,
    bundled_operating_points,
    default_operating_points,
    find_operating_points,
)
from slicewise.inference.postprocess import Postprocessing, smooth_slices
from slicewise.inference.prediction import Prediction, SlicePredictions
from slicewise.inference.prepared_case import Input, PreparedCase, prepare_case
from slicewise.runtime.bundle import Bundle, is_bundle

if TYPE_CHECKING:
    from slicewise.compute.device import DeviceName
    from slicewise.config.schema.model import TaskName
    from slicewise.models.checkpoint import Checkpoint
    from slicewise.models.multitask import MultitaskModel
    from slicewise.tasks.base import Task

_ENSEMBLE: Final = "every fold chose thresholds for its own model, and none were chosen for the ensemble"


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
        checkpoints: "Sequence[Checkpoint | Bundle]",
        settings: Evaluation,
        *,
        device: "DeviceName" = "auto",
        backend: str = "torch",
        inference: InferenceSettings | None = None,
        points: OperatingPoints | None = None,
        paths: Sequence[Path] = (),
        num_threads: int = 0,
    ) -> None:
        ensemble.require_same_input(checkpoints, [str(path) for path in paths])
        self.checkpoints, self.paths = tuple(checkpoints), tuple(paths)
        self.settings, self.batch_size, self.backend = settings, settings.batch_size, backend
        self.inference = settings.inference if inference is None else inference
        segmentation, classification = checkpoints[0].tasks.segmentation, checkpoints[0].tasks.classification
        self.classes = (
            Classes.of_pixels(segmentation.classes, segmentation.activation) if segmentation else TUMOUR
        )
        self.slice_classes = Classes.of_slices(classification.classes) if classification else TUMOUR_OR_NOT
        counts = [len(self.slice_classes.with_absence)] if self.slice_classes.several else []
        self._class_shape: tuple[int, ...] = tuple(counts)
        settings = settings.suited_to(classification)
        self.transforms = ensemble.tta_transforms(self.inference)
        self._members, self.device = make_members(checkpoints, backend, device, num_threads)
        self.points = points or default_operating_points(
            Postprocessing.configured(settings), "none were chosen"
        )

    @classmethod
    def load(
        cls,
        checkpoint: Path | str | Sequence[Path | str],
        *,
        device: "DeviceName" = "auto",
        backend: str = "auto",
        settings: Evaluation | None = None,
        num_threads: int = 0,
        **overrides: Any,
    ) -> Self:
        """Read a checkpoint, several as an ensemble, or a bundle, and the operating points of its evaluation.

        These are read from the `calibration.json` beside the checkpoint, or in the results of the workspace
        around it, or are those of the bundle; `points` says where they come from, or why there are none.

        Args:
            checkpoint: a `best_model.pth`, or several; or the folder of a bundle of `slicewise export`.
            device: where the models run.
            backend: what runs them; `auto`: the fastest one whose parity with the checkpoint was proven on
                such a processor, else torch (`inference.choice`).
            settings: the section `evaluation` for all that was not selected; by default that of configs/.
            num_threads: of an exported graph; 0: one per core. Torch takes its threads from the process.
            overrides: keys of this section that hold whatever was selected: `class_threshold`,
                `uncertain_band`, `mask_threshold`, `min_component`, `component_share`, and the fields of
                `InferenceSettings`.

        Raises:
            CheckpointError: a file is missing, damaged or no checkpoint, or the inputs of the models differ.
            ConfigError: a key or a value of `overrides` is unknown or invalid.
            UsageError: the machine has no such device, or nothing was exported for this backend.
            WorkspaceError: `calibration.json` is damaged.
        """
        paths = [Path(each) for each in ([checkpoint] if isinstance(checkpoint, Path | str) else checkpoint)]
        loaded, backend = load_models(paths, backend, device)
        settings = settings_for(loaded[0], settings, overrides)
        configured = Postprocessing.configured(settings)
        if len(loaded) > 1:
            points = default_operating_points(configured, _ENSEMBLE)
        elif isinstance(loaded[0], Bundle) and is_bundle(paths[0]):
            points = bundled_operating_points(loaded[0].points, configured, overrides)
        else:
            points = find_operating_points(paths[0], loaded[0].weights_digest, configured, overrides)
        more: dict[str, Any] = {"inference": points.inference, "points": points, "num_threads": num_threads}
        return cls(loaded, settings, device=device, backend=backend, paths=paths, **more)

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
    def tasks(self) -> "Mapping[TaskName, Task]":
        """The tasks of the model by name."""
        from slicewise.tasks.build import make_tasks

        return make_tasks(self.checkpoints[0].tasks)

    @property
    def runs_graphs(self) -> bool:
        return all(isinstance(member, Averages) for member in self._members)  # which need no torch

    @property
    def task_names(self) -> "tuple[TaskName, ...]":
        return self.checkpoints[0].tasks.names

    @cached_property
    def model(self) -> "MultitaskModel":
        """The (first) model itself, for uses beyond prediction (Grad-CAM)."""
        return model_of(self._members[0], self.checkpoints[0], self.paths, self.device)

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
            "backend": self.backend,
            "tasks": [*self.task_names],
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
            tasks=self.task_names,
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
            inside = np.any(images != 0, axis=1, keepdims=True)  # a neighbour's brain may reach farther
            masks = smooth_slices(masks, self.inference.mask_smoothing) * inside
        if self.inference.class_smoothing:
            classes = smooth_slices(classes, self.inference.class_smoothing)
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
        for start in range(0, num_slices, self.batch_size):
            part = slice(start, start + self.batch_size)
            batch, filled = np.asarray(images[part], np.float32), slots[part]
            # No loss was computed outside the brain; nothing there is a tumour.
            inside = np.any(batch != 0, axis=1, keepdims=True)
            for member in self._members:
                mask, shares = self._average(member, batch, filled)
                masks[part] += mask * inside
                classes[part] += shares
        count = np.float32(len(self._members))
        return SlicePredictions(masks / count, classes / count)

    def single_pass(self, model: int, transform: ensemble.TTATransform) -> Self:
        """Return this pipeline with one of its models and one augmentation alone."""
        one = copy(self)
        one._members, one.transforms = [self._members[model]], (transform,)
        return one

    def _average(self, member: Member, images: Floats, slots: Floats) -> tuple[Floats, Floats]:
        """Return one model's mean over the augmentations: of pixels [S, K, N, N], of slices [S] or [S, C]."""
        if isinstance(member, Averages):
            return member.average(images, slots, self.transforms)
        import torch

        from slicewise.inference.torch_backend import average

        return average(member, self.tasks, images, slots, self.transforms, torch.device(self.device))
