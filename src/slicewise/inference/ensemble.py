"""Ensembles: the mean of several models' probabilities (Hansen and Salamon 1990)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.compute.device import DeviceName
from slicewise.config.schema.evaluation import PLAIN_INFERENCE, InferenceSettings
from slicewise.core.errors import CheckpointError
from slicewise.core.hashing import digest
from slicewise.inference.predictor import BasePredictor, Predictor, SlicePredictions
from slicewise.models.checkpoint import Checkpoint

_TRAINING_ONLY: Final = {"healthy_ratio", "max_train_slices"}
"""Keys of the preprocessing that choose slices for training and do not change the input"""


class Ensemble(BasePredictor):
    """Several models as one, those of a cross-validation for example.

    Args:
        predictors: one or more; each predicts every slice.
        names: of the models in messages; by default their fingerprints.

    Raises:
        CheckpointError: the inputs of the models differ; names the models and what differs.
    """

    def __init__(self, predictors: Sequence[Predictor], names: Sequence[str] = ()) -> None:
        if not predictors:
            raise CheckpointError("an ensemble needs at least one checkpoint; name some")
        self.predictors = tuple(predictors)
        self.checkpoints = tuple(predictor.checkpoint for predictor in predictors)
        self.device, self.inference = predictors[0].device, predictors[0].inference
        names = names or [checkpoint.fingerprint[:12] for checkpoint in self.checkpoints]
        first, mismatches = _input_signature(self.checkpoints[0]), []
        for checkpoint, name in zip(self.checkpoints[1:], names[1:], strict=True):
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

    @classmethod
    def load(
        cls,
        paths: Sequence[Path],
        device: DeviceName = "auto",
        *,
        inference: InferenceSettings = PLAIN_INFERENCE,
    ) -> Self:
        """Read checkpoint files.

        Raises:
            CheckpointError: a file is missing or damaged, or the inputs of the models differ.
        """
        predictors = [Predictor.load(path, device, inference=inference) for path in paths]
        return cls(predictors, [str(path) for path in paths])

    @property
    def fingerprint(self) -> str:
        """Identity of the models, whatever their order."""
        return digest(sorted(checkpoint.fingerprint for checkpoint in self.checkpoints))

    def predict_slices(
        self, images: NDArray[np.floating], presence: ArrayLike, batch_size: int = 8
    ) -> SlicePredictions:
        """Return the mean of the models' probabilities; see `Predictor.predict_slices`."""
        first, *others = self.predictors
        masks, classes = first.predict_slices(images, presence, batch_size)
        for predictor in others:
            predictions = predictor.predict_slices(images, presence, batch_size)
            masks += predictions.mask_probability
            classes += predictions.class_probability
        count = np.float32(len(self.predictors))
        return SlicePredictions(masks / count, classes / count)


def _input_signature(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what decides the numbers that go into the model, and what its outputs mean."""
    settings = checkpoint.preprocessing.model_dump(exclude=_TRAINING_ONLY)
    layers = (tensor for name, tensor in checkpoint.weights.items() if name.startswith("encoder."))
    return {
        **{f"preprocessing.{key}": value for key, value in settings.items()},
        "the number of input channels": next(layer.shape[1] for layer in layers if layer.ndim == 4),
        "data.sources.pictures.slot": checkpoint.slot,
        "the list of classes": checkpoint.class_names,
    }
