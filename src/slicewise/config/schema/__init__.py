"""Every key of the configuration, with its type and bounds. Defaults are in configs/ alone.

base        the base class of sections; bounded numbers
config      the root
data        data sets, scale, preprocessing, split
evaluation  inference and evaluation
model       architecture
runtime     demo, machine, tracking
sources     settings of each kind of data source
tasks       what is segmented, into which classes a slice is classified
training    stages, optimiser, loss, augmentation

Sections are frozen and refuse unknown keys; values are scalars, literals, tuples and sections, so a
configuration cannot change during a run, nor its hash between runs.
"""

from slicewise.config.schema.config import Config
from slicewise.config.schema.data import (
    Preprocessing,
    SplitFractions,
    SplitSettings,
)
from slicewise.config.schema.evaluation import Evaluation
from slicewise.config.schema.model import Model
from slicewise.config.schema.runtime import Runtime, Serving
from slicewise.config.schema.sources import SourceSettings
from slicewise.config.schema.tasks import Tasks
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
