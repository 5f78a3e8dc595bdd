"""One training loop for every stage: what differs between stages is in their configuration."""

import logging
from dataclasses import dataclass
from pathlib import Path

from slicewise.config.schema import Config, Stage
from slicewise.config.schema.training import StageName
from slicewise.core.console import say
from slicewise.data.loading.dataset import SliceDataset
from slicewise.models.checkpoint import Checkpoint
from slicewise.training.fabric import deterministic_kernels
from slicewise.training.out_of_memory import explain_out_of_memory
from slicewise.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageResult:
    """What a stage came to."""

    best_metrics: dict[str, float]
    """Validation metrics of the epoch that was kept"""
    best_epoch: int
    """The epoch that was kept; 0 is the model that the stage began with"""
    start_metrics: dict[str, float]
    """Validation metrics of that model; empty where it could not be kept"""
    epochs_run: int
    seconds: float
    """Spent on training batches, in all runs together"""
    images_per_second: float
    device: str
    num_threads: int
    """Of the last epoch, see `threads_by_epoch`. With another number the weights differ in their last bits"""
    threads_by_epoch: list[int]
    """More than one number where the machine's load changed and `runtime.num_threads` left the choice open"""
    precision: str
    """Of the computation: fp32, bf16 or fp16"""
    precision_reason: str
    """Why `training.precision=auto` took it"""
    resumed_from: str | None
    """`epoch 2, batch 40` where an interrupted run was taken up"""


def train_stage(
    name: StageName,
    stage: Stage,
    config: Config,
    train_set: SliceDataset,
    val_set: SliceDataset,
    out_dir: Path,
    start: Checkpoint | None,
    *,
    fingerprint: str,
    resume: bool = True,
) -> StageResult:
    """Train one stage; `out_dir` receives best_model.pth, last.pth, history.csv, curves.png and samples/.

    An interrupted stage of the same fingerprint goes on at the batch where its last state was saved, and ends
    with the same bits as one that was not interrupted (on the same machine, with as many threads).

    Args:
        name: names the stage in files and seeds; the loop does not ask for it.
        stage: what to learn, from what, how fast.
        config: everything the stages share.
        train_set: slices of the training side; a bounded number of each case in a round, see `data.sampling`.
        val_set: slices of the validation side; all are used.
        out_dir: folder of this stage alone.
        start: the checkpoint to begin with; None for a new network.
        fingerprint: identity of this stage's settings and inputs.
        resume: whether to go on from `last.pth` in `out_dir`.

    Raises:
        TrainingError: too few slices, a loss that is not a number, or a batch that memory cannot hold.
        CheckpointError: `start` belongs to another model, or `last.pth` is damaged.
    """
    with deterministic_kernels(config.runtime, name) as threads, explain_out_of_memory(name, config):
        run = Trainer(name, stage, config, train_set, val_set, out_dir, start, fingerprint)
        resumed_from = run.resume() if resume else None
        log.info("%s: %s (%s)", name, run.learner.precision, run.learner.precision_reason)
        if config.training.precision == "auto":
            say(f"  {name}: {run.learner.precision} ({run.learner.precision_reason})", "dim")
        run.run(threads)
    progress = run.progress
    return StageResult(
        best_metrics=progress.best_metrics,
        best_epoch=progress.best_epoch,
        start_metrics=progress.start_metrics,
        epochs_run=progress.epoch,
        seconds=progress.seconds,
        images_per_second=progress.num_images / max(progress.seconds, 1e-9),
        device=run.learner.device.type,
        num_threads=progress.num_threads,
        threads_by_epoch=[int(row["num_threads"]) for row in progress.history if "num_threads" in row],
        precision=run.learner.precision,
        precision_reason=run.learner.precision_reason,
        resumed_from=resumed_from,
    )
