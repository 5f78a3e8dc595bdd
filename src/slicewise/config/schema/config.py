"""The root of the configuration."""

from typing import Literal, Self

from pydantic import model_validator

from slicewise.config.schema.base import Section, Seed
from slicewise.config.schema.data import Data, Preprocessing, Scale, SplitSettings
from slicewise.config.schema.evaluation import Evaluation
from slicewise.config.schema.model import Model
from slicewise.config.schema.runtime import Runtime, Serving, Tracking
from slicewise.config.schema.training import Stages, Training


class Config(Section):
    """Everything a run needs to know."""

    training_mode: Literal["quick", "baseline", "production"]
    """How much: sets the sections below by a file of configs/modes."""
    seed: Seed
    """Everything drawn in training and evaluation; who is tested has a seed of its own (`split.seed`)."""
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
                "data.pictures.train_only and a given split (split.file, split.folders) both say what is "
                "trained on; leave one of them out"
            )
        return self
