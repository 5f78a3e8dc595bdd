"""The root of the configuration."""

from typing import Literal, Self

from pydantic import model_validator

from slicewise.config.schema.base import Section, Seed
from slicewise.config.schema.data import Data, Preprocessing, Scale, SplitSettings
from slicewise.config.schema.evaluation import Evaluation
from slicewise.config.schema.model import Model
from slicewise.config.schema.runtime import Runtime, Serving, Tracking
from slicewise.config.schema.training import Stages, Training

TrainingMode = Literal["quick", "baseline", "production"]


class Config(Section):
    """All settings of a run."""

    training_mode: TrainingMode
    """Name of the file of configs/modes that sets amount of data, epochs and model."""
    seed: Seed
    """Seed of training and evaluation; that of the split is `split.seed`."""
    data: Data
    scale: Scale
    preprocessing: Preprocessing
    split: SplitSettings
    model: Model
    training: Training
    stages: Stages
    evaluation: Evaluation
    serving: Serving
    runtime: Runtime
    tracking: Tracking

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.split.is_given and self.data.pictures.train_only:
            raise ValueError(
                "data.pictures.train_only and a given split (split.file, split.folders) both choose the "
                "training data; leave one of them out"
            )
        size, stride = self.preprocessing.image_size, self.model.stride or 1
        if size % stride:
            below = size // stride * stride
            raise ValueError(
                f"preprocessing.image_size={size} is not a multiple of {stride}, the stride of "
                f"model.architecture={self.model.architecture} at depth {self.model.depth}; choose "
                f"{max(below, 2 * stride)} or {below + stride}"
            )
        return self
