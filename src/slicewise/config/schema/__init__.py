"""Every key of the configuration, typed and bounded. Defaults live in configs/ alone, never here.

Each model is frozen and forbids unknown keys; values are scalars, literals, tuples and sections, so a
configuration can neither change during a run nor hash differently in the next one.
"""

from slicewise.config.schema.config import Config
from slicewise.config.schema.data import (
    Data,
    PictureSource,
    Preprocessing,
    Scale,
    SplitFractions,
    SplitSettings,
    VolumeSource,
)
from slicewise.config.schema.evaluation import Evaluation
from slicewise.config.schema.model import Model
from slicewise.config.schema.runtime import Runtime, Serving, Tracking
from slicewise.config.schema.training import (
    Augmentation,
    LearningRates,
    MaskLoss,
    Objective,
    Optimizer,
    Scheduler,
    SourceWeights,
    Stage,
    Stages,
    Training,
)

__all__ = [
    "Augmentation",
    "Config",
    "Data",
    "Evaluation",
    "LearningRates",
    "MaskLoss",
    "Model",
    "Objective",
    "Optimizer",
    "PictureSource",
    "Preprocessing",
    "Runtime",
    "Scale",
    "Scheduler",
    "Serving",
    "SourceWeights",
    "SplitFractions",
    "SplitSettings",
    "Stage",
    "Stages",
    "Tracking",
    "Training",
    "VolumeSource",
]
