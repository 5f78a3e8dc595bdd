"""Training of one stage: the loop is the same for all of them, the configuration says what differs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from slicewise.compute.threads import Threads
from slicewise.config.schema import Config, Runtime
from slicewise.core.console import say
from slicewise.core.errors import TrainingError
from slicewise.core.machine import is_out_of_memory
from slicewise.data.loading.dataset import SliceDataset
from slicewise.models.checkpoint import Checkpoint
from slicewise.training.model_selection import StopReason, stop_reason
from slicewise.training.processes import join_processes, shared_config
from slicewise.training.trainer import Pace, Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageResult:
    """The outcome of a stage."""

    best_metrics: dict[str, float]
    """Validation metrics of the selected epoch"""
    best_epoch: int
    """The selected epoch; 0: the initial weights"""
    start_metrics: dict[str, float]
    """Validation metrics of the initial weights; empty where they may not be kept"""
    epochs_run: int
    seconds: float
    """Spent on training batches, in all runs together"""
    images_per_second: float
    device: str
    num_threads: int
    """Of the last epoch, see `threads_by_epoch`. With another number the weights differ in their last bits"""
    threads_by_epoch: list[int]
    """More than one number where the machine's load changed and `runtime.num_threads` left the choice open"""
    num_processes: int
    """That shared each batch, see `training.processes`; another number changes the last bits, too"""
    precision: str
    """Of the computation: fp32, bf16 or fp16"""
    precision_reason: str
    """Why `training.precision=auto` chose it"""
    stop_reason: StopReason | None
    """Why it ended; see `model_selection.stop_reason`"""
    resumed_from: str | None
    """`epoch 2, batch 40` where an interrupted run was resumed"""


def train_stage(
    name: str,
    config: Config,
    train_set: SliceDataset,
    val_set: SliceDataset,
    out_dir: Path,
    start: Checkpoint | None,
    *,
    fingerprint: str,
    teacher: Checkpoint | None = None,
) -> StageResult:
    """Train one stage; `out_dir` receives best_model.pth, last.pth, history.csv, curves.png and samples/.

    An interrupted stage of the same fingerprint resumes at the batch where its last state was saved, and ends
    with the same bits as one that was not interrupted (on the same machine, with as many threads).

    `name` is one of `config.stages`, `out_dir` a folder of this stage alone; without a checkpoint to `start`
    from the model is new. `fingerprint` identifies the stage's settings and inputs. With a `teacher`, a model
    of the same tasks, the stage learns from its probabilities as much as from the truth.

    Raises:
        TrainingError: too few slices, a loss that is NaN or infinite, or a batch that memory cannot hold.
        CheckpointError: `start` belongs to another model, or `last.pth` is damaged.
    """
    shared = shared_config(config)
    sets = train_set, val_set
    identity: dict[str, Any] = {"fingerprint": fingerprint, "teacher": teacher}
    work = partial(train_stage, name, shared, *sets, out_dir, start, **identity)
    with (
        join_processes(shared, work),
        deterministic_kernels(shared.runtime, name) as threads,
        explain_out_of_memory(name, config),
    ):
        trainer = Trainer(name, shared, *sets, out_dir, start, **identity)
        resumed_from = trainer.resume()
        learner = trainer.learner
        log.info("%s: %s (%s)", name, learner.precision, learner.precision_reason)
        if config.training.precision == "auto":
            say(f"  {name}: {learner.precision} ({learner.precision_reason})", "dim")
        trainer.run(threads)
    progress = trainer.progress
    return StageResult(
        best_metrics=progress.best_metrics,
        best_epoch=progress.best_epoch,
        start_metrics=progress.start_metrics,
        epochs_run=progress.epoch,
        seconds=progress.seconds,
        images_per_second=progress.num_images / max(progress.seconds, 1e-9),
        device=learner.device.type,
        num_threads=progress.num_threads,
        threads_by_epoch=[int(row["num_threads"]) for row in progress.history if "num_threads" in row],
        num_processes=config.runtime.num_processes,
        precision=learner.precision,
        precision_reason=learner.precision_reason,
        stop_reason=stop_reason(progress, config.stages[name]),
        resumed_from=resumed_from,
    )


def rehearse_stage(
    name: str,
    config: Config,
    train_set: SliceDataset,
    val_set: SliceDataset,
    out_dir: Path,
    start: Checkpoint | None,
    teacher: Checkpoint | None = None,
) -> tuple[Pace, Checkpoint]:
    """Return how long the parts of a stage take here, and a checkpoint of it to start the next stage from.

    It trains the epochs of the configuration, 1 + `REHEARSED_ROUNDS` of them, in `out_dir`; the arguments
    and errors are those of `train_stage`.
    """
    shared = shared_config(config)
    work = partial(rehearse_stage, name, shared, train_set, val_set, out_dir, start, teacher)
    with (
        join_processes(shared, work),
        deterministic_kernels(shared.runtime, name) as threads,
        explain_out_of_memory(name, config),
    ):
        trainer = Trainer(name, shared, train_set, val_set, out_dir, start, "", teacher)
        pace = trainer.rehearse(threads)
    return pace, trainer.learner.checkpoint(name, "", {})


@contextmanager
def deterministic_kernels(runtime: Runtime, what: str = "training") -> Iterator[Threads]:
    """Set the threads, and use only kernels that give the same bits each time."""
    with (
        Threads(runtime.num_threads, what) as threads,
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        yield threads


@contextmanager
def explain_out_of_memory(stage: str, config: Config) -> Iterator[None]:
    """Raise TrainingError that names stage, sizes and remedy, where memory runs out in the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        training, size = config.training, config.preprocessing.image_size
        if training.batch_size < 4:  # batch normalisation needs two
            advice = "two slices do not fit: lower preprocessing.image_size or choose a smaller model.encoder"
        else:
            advice = (
                f"set training.batch_size={training.batch_size // 2} with "
                f"training.accumulate={training.accumulate * 2}, as many slices a step, and run again"
            )
        raise TrainingError(
            f"{stage} ran out of memory with training.batch_size={training.batch_size} slices of "
            f"{size} x {size} ({str(error).splitlines()[0]}); {advice}"
        ) from error
