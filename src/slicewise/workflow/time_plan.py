"""Training for a given time: how long the parts of a run take here, and the epochs and batches that fit.

A few short epochs of each stage are trained, the first of which does not count, and validation cases are
predicted; what the run has used by then is known. The plan is an output like others: a run that is repeated
or resumed keeps it, wherever it is measured faster, and so gives the same bits.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from slicewise.config.schema import Config
from slicewise.core import activity
from slicewise.core.console import say
from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.core.files import read_json
from slicewise.data.split.assignment import Split, Subset
from slicewise.engine.observers import Observer
from slicewise.engine.record import StepStatus
from slicewise.engine.step import Context
from slicewise.engine.workspace import StoredOutput
from slicewise.workflow.slices import SPLIT_NAME, open_cases, open_subset, read_manifest

if TYPE_CHECKING:
    from slicewise.data.loading.dataset import SliceDataset
    from slicewise.models.checkpoint import Checkpoint
    from slicewise.training.trainer import Pace

STEP: Final = "time_plan"
STAGES_NAME: Final = "stages.json"
FORECAST_NAME: Final = "forecast.json"
_REHEARSED_BATCHES: Final = 12
"""Of each short epoch of a stage"""
_LEAST_BATCHES: Final = 10
"""Of a stage; with fewer, batch norms have statistics of hardly anything"""
_LARGEST_SCALE: Final = 10_000.0
_STAGE_SECONDS: Final = 1.5
"""Building a model, and sealing the output of a stage"""
_OTHER_SECONDS: Final = {"report": 1.5, "demo": 10.0}
_FIGURE_SECONDS: Final = 4.5
"""Statistics and figures of an evaluation; these as measured on two cores, see docs/lab/results.md"""
_SALIENCY_SECONDS: Final = 0.23
"""Drawing a saliency picture"""
_SALIENCY_PASSES: Final = 30
"""Predictions of a slice that take as long as its saliency maps and their tests"""
_ALL_MODALITY_SUBSETS: Final = 14


class StagePlan(NamedTuple):
    """The size of a stage."""

    epochs: int
    batches: int
    """Of an epoch"""


def plan_stages(
    paces: "Mapping[str, Pace]", usual: Mapping[str, StagePlan], seconds: float
) -> dict[str, StagePlan]:
    """Return stages in their usual proportions that take `seconds` together, epochs of about the usual size.

    Raises:
        UsageError: even the shortest stages take longer.
    """
    low, high = 0.0, _LARGEST_SCALE
    least = sum(stage_seconds(paces[name], plan) for name, plan in _scaled(usual, low).items())
    if least > seconds:
        raise UsageError(
            f"too little time is left: the shortest training takes {least / 60:.1f} minutes on this machine, "
            f"{(least - seconds) / 60:.1f} more than there are; raise --minutes by so much"
        )
    for _ in range(60):
        middle = (low + high) / 2
        planned = _scaled(usual, middle)
        fits = sum(stage_seconds(paces[name], plan) for name, plan in planned.items()) <= seconds
        low, high = (middle, high) if fits else (low, middle)
    return _scaled(usual, low)


def _scaled(usual: Mapping[str, StagePlan], scale: float) -> dict[str, StagePlan]:
    planned = {}
    for name, (epochs, batches) in usual.items():
        total = max(scale * epochs * batches, min(_LEAST_BATCHES, batches))
        number = max(1, round(total / batches))
        planned[name] = StagePlan(number, max(1, int(total / number)))
    return planned


def stage_seconds(pace: "Pace", plan: StagePlan) -> float:
    """Return the seconds that a stage takes."""
    per_epoch = plan.batches * pace.batch + pace.closing
    return _STAGE_SECONDS + pace.start + plan.epochs * per_epoch


def make_time_plan(context: Context[Config]) -> tuple[dict[str, StagePlan], dict[str, float]]:
    """Return the sizes of the stages, and the seconds that each of the steps to come takes.

    Raises:
        UsageError: the time is too short.
    """
    minutes = context.config.training.minutes
    assert minutes is not None
    paces, usual, last = _rehearse(context)
    forecast = {"evaluate": _evaluation_seconds(context, last), **_OTHER_SECONDS}
    left = 60 * minutes - activity.elapsed_seconds() - sum(forecast.values())
    planned = plan_stages(paces, usual, left)
    training = {f"train.{name}": stage_seconds(paces[name], plan) for name, plan in planned.items()}
    return planned, training | forecast


def _rehearse(context: Context[Config]) -> "tuple[dict[str, Pace], dict[str, StagePlan], Checkpoint]":
    """Return the pace and the usual size of each stage, and a checkpoint of the last one."""
    config, train_set, val_set = context.config, open_subset(context, "train"), open_subset(context, "val")
    paces: dict[str, Pace] = {}
    usual: dict[str, StagePlan] = {}
    checkpoints: dict[str | None, Checkpoint | None] = {None: None}
    for name, stage in config.stages.items():
        with tempfile.TemporaryDirectory(dir=context.partial) as folder:
            rehearsed = rehearse(
                name, config, train_set, val_set, checkpoints[stage.starts_from], Path(folder)
            )
        paces[name], usual[name], last = rehearsed
        checkpoints[name] = last
    return paces, usual, last


def rehearse(
    name: str,
    config: Config,
    train_set: "SliceDataset",
    val_set: "SliceDataset",
    start: "Checkpoint | None",
    folder: Path,
    teacher: "Checkpoint | None" = None,
) -> "tuple[Pace, StagePlan, Checkpoint]":
    """Return the pace of a stage from short epochs in `folder`, its configured size, and its checkpoint."""
    from slicewise.training.stage import rehearse_stage
    from slicewise.training.trainer import REHEARSED_ROUNDS, make_loader

    stage = config.stages[name]
    plan = StagePlan(stage.epochs, len(make_loader(name, config, train_set)))
    short = stage.model_copy(
        update={
            "epochs": 1 + REHEARSED_ROUNDS,
            "iterations_per_epoch": min(_REHEARSED_BATCHES, plan.batches),
        }
    )
    rehearsed = config.model_copy(update={"stages": {**config.stages, name: short}})
    pace, checkpoint = rehearse_stage(name, rehearsed, train_set, val_set, folder, start, teacher)
    return pace, plan, checkpoint


def _evaluation_seconds(context: Context[Config], checkpoint: "Checkpoint") -> float:
    """Return the seconds of an evaluation: the stages on the test cases, the last one on validation cases."""
    settings = context.config.evaluation
    per_slice = _prediction_seconds(context, checkpoint)
    validated, tested = _num_slices(context, "val"), _num_slices(context, "test")
    # The masks of a stage that trains the head alone are those of the stage before, in one pass for both.
    passes = sum(bool(stage.objective.segmentation) for stage in context.config.stages.values()) or 1
    volumes = {source.name for source in context.config.data.sources.values() if source.unit == "volume"}
    subsets = _ALL_MODALITY_SUBSETS if settings.modality_subsets else 0
    predicting = sum(
        measured * (validated.get(name, 0) + tested.get(name, 0))
        + quick * (passes - 1 + (subsets if name in volumes else 0)) * tested.get(name, 0)
        for name, (measured, quick) in per_slice.items()
    )
    saliency = _SALIENCY_PASSES * min((quick for _, quick in per_slice.values()), default=0.0)
    return predicting + settings.gradcam_pictures * (saliency + _SALIENCY_SECONDS) + _FIGURE_SECONDS


def _prediction_seconds(context: Context[Config], checkpoint: "Checkpoint") -> dict[str, tuple[float, float]]:
    """Return the seconds in which a slice of each source is predicted and scored: with surfaces, without.

    The reference is scored as if it had been predicted: the masks of a model that is hardly trained have
    long borders, which take long to measure.
    """
    from slicewise.compute.device import choose_device
    from slicewise.compute.threads import tuned_threads
    from slicewise.evaluation.evaluate import evaluate_slices
    from slicewise.inference.pipeline import Pipeline
    from slicewise.workflow.evaluation import case_outputs

    config, per_slice = context.config, dict[str, tuple[float, float]]()
    pipeline = Pipeline([checkpoint], config.evaluation, device=config.runtime.device)
    with tuned_threads(config.runtime.num_threads, "evaluate", choose_device(config.runtime.device).type):
        for case in open_cases(context, "val"):
            if case.key.source not in per_slice:
                pipeline.predict(case)
                clock = [time.perf_counter()]
                (output,) = case_outputs(pipeline, [case], STEP)
                clock.append(time.perf_counter())
                ideal = replace(output, mask_probability=(output.masks > 0).astype("float32"))
                for surfaces in (True, False):
                    evaluate_slices([ideal], config.evaluation, config.seed, surfaces=surfaces)
                    clock.append(time.perf_counter())
                predicted, *scored = ((end - start) / len(case.indices) for start, end in pairwise(clock))
                per_slice[case.key.source] = (predicted + scored[0], predicted + scored[1])
    return per_slice


def _num_slices(context: Context[Config], subset: Subset) -> dict[str, int]:
    """Return the slices of a subset by source, none of which is read."""
    groups = Split.from_json(read_json(context.home("split", "split") / SPLIT_NAME)).subset(subset)
    counts: dict[str, int] = {}
    for entry in read_manifest(context):
        if (entry["source"], entry["group"]) in groups:
            counts[entry["source"]] = counts.get(entry["source"], 0) + int(entry["num_slices"])
    return counts


def planned_config(context: Context[Config]) -> Config:
    """Return the configuration with the sizes of the time plan, if the step needs one; see `apply_plan`."""
    folder = context.homes.get((STEP, STEP))
    return apply_plan(context.config, folder) if folder else context.config


def apply_plan(config: Config, folder: Path) -> Config:
    """Return the configuration with the sizes of a time plan in place of `training.minutes`.

    No stage has patience: it would end before its time, at a high learning rate.

    Raises:
        WorkspaceError: the plan is damaged.
    """
    path = folder / STAGES_NAME
    planned = read_json(path)
    try:
        stages = {
            name: stage.model_copy(
                update={
                    "epochs": int(planned[name]["epochs"]),
                    "iterations_per_epoch": int(planned[name]["batches"]),
                    "patience": 0,
                }
            )
            for name, stage in config.stages.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise WorkspaceError(f"{path} is damaged; run again with --force {STEP}") from error
    training = config.training.model_copy(update={"minutes": None})
    return config.model_copy(update={"stages": stages, "training": training})


class Forecast(Observer):
    """Says when a run with a time plan will end, after each step and epoch."""

    def __init__(self, minutes: float) -> None:
        self._minutes, self._expected, self._left = minutes, dict[str, float](), dict[str, float]()
        self._epochs: dict[str, int] = {}

    def epoch(self, step: str, metrics: Mapping[str, float]) -> None:
        name = step.removeprefix("train.")
        if name in self._epochs:
            done = metrics["epoch"] / self._epochs[name]
            self._left[step] = self._expected[step] * max(0.0, 1 - done)
            self._tell()

    def finished(self, step: str, status: StepStatus, _reason: str, output: StoredOutput | None) -> None:
        if step == STEP and output is not None:
            folder = output.folders[STEP]
            self._expected = dict(read_json(folder / FORECAST_NAME))
            self._left = {**self._expected}
            planned: Mapping[str, Any] = read_json(folder / STAGES_NAME)
            self._epochs = {name: int(plan["epochs"]) for name, plan in planned.items()}
        self._left.pop(step, None)
        if self._left and status == "completed":
            self._tell()

    def _tell(self) -> None:
        elapsed, left = activity.elapsed_seconds(), sum(self._left.values())
        end = time.strftime("%H:%M:%S", time.localtime(time.time() + left))
        total = (elapsed + left) / 60
        say(f"  forecast: ends at about {end}, after {total:.1f} of {self._minutes:g} minutes", "dim")
