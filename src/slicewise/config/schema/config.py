"""The root of the configuration; the demo, the machine of a run, and experiment tracking."""

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from slicewise.config.schema.base import (
    Count,
    CountOrZero,
    Name,
    Positive,
    Section,
    Seed,
)
from slicewise.config.schema.cluster import Cluster
from slicewise.config.schema.data import Data, Preprocessing, Scale, SplitSettings
from slicewise.config.schema.evaluation import Evaluation
from slicewise.config.schema.model import ClassificationSettings, Model, SegmentationSettings, Tasks
from slicewise.config.schema.sources import KINDS, ClassFoldersSettings, SourceSettings
from slicewise.config.schema.training import PART_OF_TASK, Stage, Training
from slicewise.domain.labels import COLOURS, GREY

Port = Annotated[int, Field(ge=1024, le=65535)]


class Serving(Section):
    """The demo."""

    host: str
    """Address of the API, IPv4; another one than 127.0.0.1, such as 0.0.0.0 for all of this machine, needs an
    API key. The page stays at 127.0.0.1 (but see `slicewise serve --page`)."""
    api_port: Port
    """Port of the API."""
    page_port: Port
    """Port of the page."""
    supervisor: Literal["auto", "pm2", "builtin"]
    """What restarts the services; `auto`: PM2 where it is installed, else `builtin`."""
    backend: Name
    """What runs the model: `torch`, or `onnx` or `openvino` of an export of this checkpoint; `auto`: the
    fastest of them that was proven to predict the same on such a processor."""
    startup_seconds: Positive
    """Time limit for the start of the services."""
    max_upload_mib: Count
    """Largest upload."""
    max_megapixels: Positive
    """Most pixels of a picture, or voxels of one channel of a volume, in millions. The readers accept no more
    than 67 and 134."""
    max_batch: Count
    """Most files of a batch."""
    max_waiting: Count
    """Requests that wait for the model; a further one is refused."""
    timeout_seconds: Positive
    """Longest time from a request to its response, waiting included."""
    api_key_file: str | None
    """File with the key that requests need in the header X-API-Key; null: the file that the environment names
    as SLICEWISE_API_KEY_FILE, else no key is needed."""
    results_hours: Positive
    """Time after which a result without access is deleted."""
    results_mib: CountOrZero
    """Disk space of the results; 0: they are in memory alone."""
    max_results: Count
    """Most results on disk."""
    phantom_cases: CountOrZero
    """Generated example cases that the page offers."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.api_port == self.page_port:
            raise ValueError(f"api_port and page_port are both {self.api_port}; each service needs its own")
        try:
            IPv4Address(self.host)
        except ValueError as error:
            raise ValueError(
                f"host {self.host!r} is no IPv4 address; write 127.0.0.1 for this machine alone, or 0.0.0.0 "
                "for all addresses of this machine"
            ) from error
        return self

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach the API."""
        return IPv4Address(self.host).is_loopback

    @property
    def own_host(self) -> str:
        """Address at which programs of this machine reach the API."""
        return "127.0.0.1" if IPv4Address(self.host).is_unspecified else self.host


class Runtime(Section):
    """The machine. Changing it reruns nothing."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    """Device of the model; `auto`: a GPU if there is one."""
    num_workers: CountOrZero
    """Processes for generation and preprocessing; 0: one per core."""
    num_threads: CountOrZero
    """Threads of the model; 0: chosen by a short measurement, see docs/explanation/reliability.md."""
    num_processes: Count
    """Processes that share the slices of each training batch. With `device=cuda` each has its own GPU; else
    each has `num_threads`, 0: the cores divided among them."""
    max_worker_memory_mib: Count
    """Memory of a preprocessing process; fewer are started where memory is short."""
    checkpoint_seconds: Positive
    """Longest time between two saved training states within an epoch."""


class Tracking(Section):
    """Experiment tracking. Changing it reruns nothing."""

    mlflow: bool
    """Log finished steps to MLflow; needs the extra `tracking`."""
    tensorboard: bool
    """Log epochs and metrics to TensorBoard, in the folder `tracking/tensorboard`; needs its package."""
    uri: str | None
    """Tracking URI of MLflow; null: a SQLite file in the workspace."""


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


def _drop_removed(entries: Any) -> Any:
    if not isinstance(entries, Mapping):
        return entries
    return {name: entry for name, entry in entries.items() if entry is not None}


_WithoutRemoved: Final = BeforeValidator(_drop_removed)
"""For a mapping of sections: an entry set to null is removed, so that a recipe or the command line can."""


def _has_class_folders(source: Any) -> bool:
    kind = KINDS.get(str(source.get("kind"))) if isinstance(source, Mapping) else None
    return kind is not None and issubclass(kind, ClassFoldersSettings)


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
    stages: Annotated[Mapping[Name, Stage], _WithoutRemoved, AfterValidator(_check_order)]
    """The training stages in order, by name; null removes one."""
    evaluation: Evaluation
    serving: Serving
    runtime: Runtime
    tracking: Tracking
    cluster: Cluster

    @model_validator(mode="before")
    @classmethod
    def _follow_classes(cls, value: Any) -> Any:
        """Let class folders and thresholds follow the classes of a slice."""
        try:
            classes = tuple(value["tasks"]["classification"]["classes"])
            sources, evaluation = value["data"]["sources"], value["evaluation"]
            named = {
                key: {**source, "classes": source.get("classes") or classes}
                if _has_class_folders(source)
                else source
                for key, source in sources.items()
            }
        except (KeyError, TypeError, AttributeError):  # absent, or invalid and reported elsewhere
            return value
        if len(classes) > 2 and isinstance(evaluation, Mapping):
            evaluation = {**evaluation, "class_threshold": None}
        return {**value, "data": {**value["data"], "sources": named}, "evaluation": evaluation}

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
        if self.training.batch_size < self.runtime.num_processes:
            raise ValueError(
                f"runtime.num_processes={self.runtime.num_processes} cannot share the slices of "
                f"training.batch_size={self.training.batch_size}; set at most that many"
            )
        self._check_tasks()
        if self.tasks.segmentation:
            self._check_segmentation(self.tasks.segmentation)
        if self.tasks.classification:
            self._check_classes(self.tasks.classification)
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

    def _check_segmentation(self, settings: SegmentationSettings) -> None:
        """Require masks, a decoder, and losses of the activation."""
        if self.model.head_input == "encoder":
            raise ValueError(
                "model.head_input=encoder leaves out the decoder, which tasks.segmentation needs; set "
                "model.head_input=decoder, or tasks.segmentation=null"
            )
        if not any(source.has_masks for source in self.data.sources.values()):
            raise ValueError(
                "no source of data.sources has masks, and tasks.segmentation needs them; add one, or set "
                "tasks.segmentation=null"
            )
        settings.check_losses(self.training.mask_loss)

    def _check_classes(self, settings: ClassificationSettings) -> None:
        """Require data that has the classes of a slice, and a threshold where there are two."""
        masked = [key for key, source in self.data.sources.items() if source.has_masks]
        if settings.has_several and masked:
            raise ValueError(
                f"tasks.classification has {len(settings.classes)} classes, and data.sources.{masked[0]} has "
                "masks, which tell two apart; choose data=class_folders data.path=FOLDER"
            )
        for key, source in self.data.sources.items():
            named = source.classes if isinstance(source, ClassFoldersSettings) else None
            if named is not None and len(named) != len(settings.classes):
                raise ValueError(
                    f"data.sources.{key}.classes names {len(named)} classes, and tasks.classification has "
                    f"{len(settings.classes)}; name as many, in the same order"
                )
        if not settings.has_several and self.evaluation.class_threshold is None:
            raise ValueError("evaluation.class_threshold is null, and there are two classes; set it to 0.5")

    @model_validator(mode="after")
    def _check_images(self) -> Self:
        for key, source in self.data.sources.items():
            self._check_channels(key, source)
        size, stride = self.preprocessing.image_size, self.model.stride or 1
        if size % stride:
            below = size // stride * stride
            raise ValueError(
                f"preprocessing.image_size={size} is not a multiple of {stride}, the stride of "
                f"model.architecture={self.model.architecture} at depth {self.model.depth}; choose "
                f"{max(below, 2 * stride)} or {below + stride}"
            )
        return self

    def _check_channels(self, key: str, source: SourceSettings) -> None:
        """Require a channel that the pictures of a source fill."""
        channels = self.preprocessing.channels
        of_pictures = {GREY, *COLOURS} & {*channels}
        if source.in_colour and not of_pictures:
            raise ValueError(
                f"data.sources.{key} has pictures in colour or grey, and preprocessing.channels are "
                f"{', '.join(channels)}; set preprocessing.channels=[red,green,blue] or [grey]"
            )
        slot = source.slot if isinstance(source, ClassFoldersSettings) else None
        if slot is not None and slot not in channels and not (slot == GREY and of_pictures):
            raise ValueError(
                f"data.sources.{key}.slot={slot} is none of preprocessing.channels "
                f"({', '.join(channels)}); set it to one of them"
            )
