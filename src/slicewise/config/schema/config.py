"""The root of the configuration."""

from typing import Literal

from slicewise.config.schema.data import Data, Preprocessing, Scale, SplitFractions
from slicewise.config.schema.evaluation import Evaluation
from slicewise.config.schema.model import Model
from slicewise.config.schema.run import Runtime, Serving, Tracking
from slicewise.config.schema.section import Section, Seed
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
    split: SplitFractions
    model: Model
    training: Training
    stages: Stages
    evaluation: Evaluation
    serving: Serving
    runtime: Runtime
    tracking: Tracking
