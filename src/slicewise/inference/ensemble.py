"""Several networks that answer as one: the mean of their probabilities (Hansen and Salamon 1990)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.compute.device import DeviceName
from slicewise.config.schema.inference import PLAIN_INFERENCE, InferenceSettings
from slicewise.core.errors import CheckpointError
from slicewise.core.hashing import digest
from slicewise.inference.predictor import BasePredictor, Predictor, SlicePredictions
from slicewise.models.checkpoint import Checkpoint

_TRAINING_ONLY: Final = {"healthy_ratio", "max_train_slices"}
"""Which slices are learnt from is no matter of what is seen."""


class Ensemble(BasePredictor):
    """The networks of a cross-validation, say, answering together.

    Args:
        predictors: one or more; each is asked about every slice.
        names: what to call them in messages; their fingerprints where nothing else is known.

    Raises:
        CheckpointError: the networks do not look at the same thing; names them and what differs.
    """

    def __init__(self, predictors: Sequence[Predictor], names: Sequence[str] = ()) -> None:
        if not predictors:
            raise CheckpointError("an ensemble needs at least one checkpoint; name some")
        self.predictors = tuple(predictors)
        self.checkpoints = tuple(predictor.checkpoint for predictor in predictors)
        first = self.predictors[0]
        self.device, self.inference, self.mask_threshold = first.device, first.inference, first.mask_threshold
        _require_same_input(
            self.checkpoints, names or [checkpoint.fingerprint[:12] for checkpoint in self.checkpoints]
        )

    @classmethod
    def load(
        cls,
        paths: Sequence[Path],
        device: DeviceName = "auto",
        *,
        mask_threshold: float = 0.5,
        inference: InferenceSettings = PLAIN_INFERENCE,
    ) -> Self:
        """Read checkpoint files.

        Raises:
            CheckpointError: a file is missing or damaged, or the networks do not look at the same thing.
        """
        predictors = [
            Predictor.load(path, device, mask_threshold=mask_threshold, inference=inference) for path in paths
        ]
        return cls(predictors, [str(path) for path in paths])

    @property
    def fingerprint(self) -> str:
        """Identity of the networks, whatever their order."""
        return digest(sorted(checkpoint.fingerprint for checkpoint in self.checkpoints))

    def predict_slices(
        self, images: NDArray[np.floating], presence: ArrayLike, batch_size: int = 8
    ) -> SlicePredictions:
        """Return the mean of the networks' probabilities; see `Predictor.predict_slices`."""
        first, *others = self.predictors
        masks, classes = first.predict_slices(images, presence, batch_size)
        for predictor in others:
            predictions = predictor.predict_slices(images, presence, batch_size)
            masks += predictions.mask_probability
            classes += predictions.class_probability
        count = np.float32(len(self.predictors))
        return SlicePredictions(masks / count, classes / count)


def _require_same_input(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> None:
    first, faults = _input_signature(checkpoints[0]), []
    for checkpoint, name in zip(checkpoints[1:], names[1:], strict=True):
        own = _input_signature(checkpoint)
        differing = [
            f"{key} is {own[key]} and not {value}" for key, value in first.items() if own[key] != value
        ]
        if differing:
            faults.append(f"{name}, where {', '.join(differing)}")
    if faults:
        raise CheckpointError(
            f"networks that see different things cannot answer together. {names[0]} differs from "
            f"{'; '.join(faults)}. Train all of them with the same settings"
        )


def _input_signature(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what decides the numbers that go into the network, and what its answers mean."""
    settings = checkpoint.preprocessing.model_dump(exclude=_TRAINING_ONLY)
    layers = (tensor for name, tensor in checkpoint.weights.items() if name.startswith("encoder."))
    return {
        **{f"preprocessing.{key}": value for key, value in settings.items()},
        "the number of input channels": next(layer.shape[1] for layer in layers if layer.ndim == 4),
        "data.pictures.slot": checkpoint.slot,
        "the list of classes": checkpoint.class_names,
    }
