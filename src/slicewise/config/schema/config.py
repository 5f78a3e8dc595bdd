"""The root of the configuration."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, model_validator

from slicewise.config.schema.base import Name, Section, Seed, WithoutRemoved
from slicewise.config.schema.data import Data, Preprocessing, Scale, SplitSettings
from slicewise.config.schema.evaluation import Evaluation
from slicewise.config.schema.model import Model
from slicewise.config.schema.runtime import Runtime, Serving, Tracking
from slicewise.config.schema.sources import ClassFoldersSettings
from slicewise.config.schema.tasks import Tasks
from slicewise.config.schema.training import PART_OF_TASK, Stage, Training

_USUAL_SOURCES: Final = ("volumes", "pictures")
"""Those of configs/data: a stage may name them where the data has none of them."""
TrainingMode = Literal["quick", "baseline", "production"]


def _check_order(stages: Mapping[str, Stage]) -> Mapping[str, Stage]:
    if not stages:
        raise ValueError("there is no stage; a run needs at least one")
    earlier: list[str] = []
    for name, stage in stages.items():
        if stage.starts_from is not None and stage.starts_from not in earlier:
            raise ValueError(
                f"{name}.starts_from is {stage.starts_from}, which is no earlier stage; set it to "
                f"{' or '.join([*earlier, 'null'])}"
            )
        earlier.append(name)
    return stages


class Config(Section):
    """All settings of a run."""

    training_mode: TrainingMode
    """Name of the file of configs/modes that sets amount of data, epochs and model."""
    recipe: Name
    """Begins the names of the checkpoint folders, `checkpoints/<recipe>_<stage>`."""
    seed: Seed
    """Seed of training and evaluation; that of the split is `split.seed`."""
    data: Data
    scale: Scale
    preprocessing: Preprocessing
    split: SplitSettings
    tasks: Tasks
    model: Model
    training: Training
    stages: Annotated[Mapping[Name, Stage], WithoutRemoved, AfterValidator(_check_order)]
    """The training stages in order, by name; null removes one."""
    evaluation: Evaluation
    serving: Serving
    runtime: Runtime
    tracking: Tracking

    @property
    def final_stage(self) -> str:
        """The stage whose model is evaluated and served."""
        return [*self.stages][-1]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, stage in self.stages.items():
            if unknown := sorted({*stage.sources} - {*self.data.sources, *_USUAL_SOURCES}):
                raise ValueError(
                    f"stages.{name}.sources.{unknown[0]}: there is no such source; data.sources has "
                    f"{', '.join(self.data.sources)}"
                )
        shared = {key for stage in self.stages.values() for key in stage.sources}
        if shared & {*self.data.sources} and (left := sorted({*self.data.sources} - shared)):
            raise ValueError(
                f"no stage has a share for data.sources.{left[0]}, so it would never be trained on; set "
                f"stages.{self.final_stage}.sources.{left[0]}, 0 if that is meant"
            )
        self._check_tasks()
        return self

    def _check_tasks(self) -> None:
        """Require that stages train and monitor the tasks that there are, all of them, and no others."""
        trained: dict[str, frozenset[str]] = {}
        for name, stage in self.stages.items():
            absent = {task for task in PART_OF_TASK if getattr(stage.objective, task)} - {*self.tasks.names}
            if absent:
                (task,) = absent
                raise ValueError(
                    f"stages.{name}.objective.{task} is above 0, but tasks.{task} is null; set it to 0"
                )
            if unknown := {*stage.monitors} - {*self.tasks.monitors}:
                raise ValueError(
                    f"stages.{name}.monitor is {stage.monitor}, but the metrics of tasks are "
                    f"{', '.join(self.tasks.monitors)}, without {', '.join(sorted(unknown))}; join some of "
                    "them by +, or set it to last"
                )
            trained[name] = stage.trained_tasks | trained.get(stage.starts_from or "", frozenset())
        for task in self.tasks.names:
            if task not in trained[self.final_stage]:
                raise ValueError(
                    f"no stage trains tasks.{task}: neither {self.final_stage} nor one that it starts from "
                    f"has both objective.{task} and learning_rates.{PART_OF_TASK[task]} above 0; set them, "
                    f"or tasks.{task}=null"
                )
        if self.tasks.segmentation:
            if not any(source.has_masks for source in self.data.sources.values()):
                raise ValueError(
                    "no source of data.sources has masks, and tasks.segmentation needs them; add one, or set "
                    "tasks.segmentation=null"
                )
            self.tasks.segmentation.check_losses(self.training.mask_loss)

    @model_validator(mode="after")
    def _check_images(self) -> Self:
        channels = self.preprocessing.channels
        for key, source in self.data.sources.items():
            if isinstance(source, ClassFoldersSettings) and source.slot not in channels:
                raise ValueError(
                    f"data.sources.{key}.slot={source.slot} is none of preprocessing.channels "
                    f"({', '.join(channels)}); set it to one of them"
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
