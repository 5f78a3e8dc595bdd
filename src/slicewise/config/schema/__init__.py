"""Every key of the configuration, with its type and bounds. Defaults are in configs/ alone.

base        the base class of sections; bounded numbers
cluster     the jobs of a run on a cluster
config      the root; demo, machine, tracking
data        the data sets of a run, scale, preprocessing, split
evaluation  inference and evaluation
model       tasks (classes of pixels and of slices), architecture
sources     kinds of data sources
training    stages, optimiser, loss, augmentation

Sections are frozen and refuse unknown keys; values are scalars, literals, tuples and sections, so a
configuration cannot change during a run, nor its hash between runs.
"""

from slicewise.config.schema.config import Config, Runtime, Serving
from slicewise.config.schema.data import (
    Preprocessing,
    SplitFractions,
    SplitSettings,
)
from slicewise.config.schema.evaluation import Evaluation
from slicewise.config.schema.model import Model, Tasks
from slicewise.config.schema.sources import SourceSettings
from slicewise.config.schema.training import (
    Augmentation,
    LearningRates,
    Objective,
    Optimizer,
    Scheduler,
    Stage,
    Training,
)

__all__ = [
    "Augmentation", "Config", "Evaluation", "LearningRates", "Model", "Objective",
    "Optimizer", "Preprocessing", "Runtime", "Scheduler", "Serving", "SourceSettings",
    "SplitFractions", "SplitSettings", "Stage", "Tasks", "Training",
]  # fmt: skip
