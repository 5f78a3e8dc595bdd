"""The root of the configuration."""

from typing import Final, Literal, Self

from pydantic import model_validator

from slicewise.config.schema.base import Section, Seed
from slicewise.config.schema.data import Data, Preprocessing, Scale, SplitSettings
from slicewise.config.schema.evaluation import Evaluation
from slicewise.config.schema.model import Model
from slicewise.config.schema.runtime import Runtime, Serving, Tracking
from slicewise.config.schema.sources import ClassFoldersSettings
from slicewise.config.schema.training import Stages, Training

_USUAL_SOURCES: Final = ("volumes", "pictures")
"""Those of configs/data: a stage may name them where the data has none of them."""
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
        for key, source in self.data.sources.items():
            if self.split.is_given and isinstance(source, ClassFoldersSettings) and source.train_only:
                raise ValueError(
                    f"data.sources.{key}.train_only and a given split (split.file, split.folders) both "
                    "choose the training data; leave one of them out"
                )
        for name, stage in self.stages:
            if unknown := sorted({*stage.sources} - {*self.data.sources, *_USUAL_SOURCES}):
                raise ValueError(
                    f"stages.{name}.sources.{unknown[0]}: there is no such source; data.sources has "
                    f"{', '.join(self.data.sources)}"
                )
        shared = {key for _, stage in self.stages for key in stage.sources}
        if shared & {*self.data.sources} and (left := sorted({*self.data.sources} - shared)):
            raise ValueError(
                f"no stage has a share for data.sources.{left[0]}, so it would never be trained on; set "
                f"stages.{[*type(self.stages).model_fields][-1]}.sources.{left[0]}, 0 if that is meant"
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
