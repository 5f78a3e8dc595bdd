"""One training loop for every stage: what differs between stages is in their configuration."""

from dataclasses import dataclass
from pathlib import Path

import torch

from slicewise.config.schema import Config, Stage
from slicewise.config.schema.training import StageName
from slicewise.data.batches import SliceDataset
from slicewise.models.checkpoint import Checkpoint
from slicewise.training.device import repeatable
from slicewise.training.run import StageRun
from slicewise.training.shortage import shortage_explained


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
    """With another number the weights differ in their last bits"""
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
    with repeatable(config.runtime), shortage_explained(name, config):
        run = StageRun(name, stage, config, train_set, val_set, out_dir, start, fingerprint)
        resumed_from = run.resume() if resume else None
        run.run()
        num_threads = torch.get_num_threads()
    progress = run.progress
    return StageResult(
        best_metrics=progress.best_metrics,
        best_epoch=progress.best_epoch,
        start_metrics=progress.start_metrics,
        epochs_run=progress.epoch,
        seconds=progress.seconds,
        images_per_second=progress.num_images / max(progress.seconds, 1e-9),
        device=run.learner.device.type,
        num_threads=num_threads,
        resumed_from=resumed_from,
    )
