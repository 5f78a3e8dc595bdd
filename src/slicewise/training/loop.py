"""One training loop for every stage: what differs between stages is in their configuration."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from slicewise.config.schema import Config, Stage
from slicewise.config.schema.training import StageName
from slicewise.core.console import progress_bar
from slicewise.core.errors import TrainingError
from slicewise.data.augment import apply_changes, draw_changes
from slicewise.data.batches import Batch, SliceDataset
from slicewise.data.loader import TrainingBatches
from slicewise.data.sampling import derive_seed
from slicewise.models.checkpoint import Checkpoint, save_checkpoint
from slicewise.training.curves import draw_curves
from slicewise.training.device import repeatable
from slicewise.training.history import write_history
from slicewise.training.learner import Learner
from slicewise.training.samples import draw_samples
from slicewise.training.state import Progress, Row, load_state, save_state
from slicewise.training.tasks import Losses
from slicewise.training.validation import monitored, validate

log = logging.getLogger(__name__)

BEST_NAME: Final = "best_model.pth"
STATE_NAME: Final = "last.pth"
_CHECK_EVERY: Final = 20
_CURVES_SECONDS: Final = 30.0


@dataclass(frozen=True)
class StageResult:
    """What a stage came to."""

    best_metrics: dict[str, float]
    """Validation metrics of the epoch that was kept"""
    epochs_run: int
    seconds: float
    """Spent on training batches, in all runs together"""
    images_per_second: float
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
        train_set: slices of the training side; only those marked for training are used.
        val_set: slices of the validation side; all are used.
        out_dir: folder of this stage alone.
        start: the checkpoint to begin with; None for a new network.
        fingerprint: identity of this stage's settings and inputs.
        resume: whether to go on from `last.pth` in `out_dir`.

    Raises:
        TrainingError: too few slices, or a loss that is not a number.
        CheckpointError: `start` belongs to another model, or `last.pth` is damaged.
    """
    with repeatable(config.runtime):
        run = StageRun(name, stage, config, train_set, val_set, out_dir, start, fingerprint)
        resumed_from = run.resume() if resume else None
        run.run()
    progress = run.progress
    return StageResult(
        best_metrics=progress.best_metrics,
        epochs_run=progress.epoch,
        seconds=progress.seconds,
        images_per_second=progress.num_images / max(progress.seconds, 1e-9),
        resumed_from=resumed_from,
    )


class StageRun:
    """A stage under way. The arguments are those of `train_stage`."""

    def __init__(
        self,
        name: StageName,
        stage: Stage,
        config: Config,
        train_set: SliceDataset,
        val_set: SliceDataset,
        out_dir: Path,
        start: Checkpoint | None,
        fingerprint: str,
    ) -> None:
        self.name, self.stage, self.config = name, stage, config
        self.training = config.training
        self.val_set, self.out_dir, self.fingerprint = val_set, out_dir, fingerprint
        self.progress = Progress()
        self.batches = TrainingBatches(
            train_set,
            stage.sources,
            batch_size=config.training.batch_size,
            iterations=config.training.iterations_per_epoch,
            key=(config.seed, name),
        )
        torch.manual_seed(derive_seed("weights", config.seed, name))
        self.learner = Learner(stage, config, start, num_steps=stage.epochs * self._steps_per_epoch())
        self._saved_at = self._drawn_at = time.monotonic()

    def resume(self) -> str | None:
        """Go on where `last.pth` ends, if it belongs to this run; return where that is."""
        found = load_state(self.out_dir / STATE_NAME, self.fingerprint)
        if found is None:
            return None
        self.progress, tensors = found
        if not self.progress.finished:
            self.learner.load_state(tensors)
            log.info("%s goes on at %s", self.name, self.progress)
        return str(self.progress)

    def run(self) -> None:
        """Train until the last epoch, or until patience ends."""
        while not self.progress.finished:
            self._train_epoch()
            self._finish_epoch()

    def _train_epoch(self) -> None:
        progress, total = self.progress, len(self.batches)
        sums = torch.tensor(progress.sums, dtype=torch.float32, device=self.learner.device)
        title = f"{self.name} {progress.epoch + 1}/{self.stage.epochs}"
        with progress_bar(desc=title, total=total, unit="batch", initial=progress.iteration) as bar:
            started = time.perf_counter()
            for batch in self._batches():
                losses = self._iterate(batch)
                sums += torch.stack([*losses, torch.ones_like(losses.total)]).detach() * len(batch)
                progress.iteration += 1
                progress.num_images += len(batch)
                if self._is_check():
                    progress.sums = tuple(sums.tolist())
                    self._require_finite()
                    started = self._count_seconds(started)
                    bar.set_postfix_str(f"loss {progress.sums[0] / progress.sums[3]:.3f}")
                    self._save_if_due()
                bar.update()

    def _iterate(self, batch: Batch) -> Losses:
        """Learn from one batch. Every draw depends on its place in the stage alone."""
        progress = self.progress
        place = (self.config.seed, self.name, progress.epoch, progress.iteration)
        torch.manual_seed(derive_seed("network", *place))
        changes = draw_changes(
            self.training.augmentation,
            self.training.modality_dropout,
            batch.presence,
            batch.images.shape[-1],
            torch.Generator().manual_seed(derive_seed("changes", *place)),
        )
        on_device = batch.to(self.learner.device)
        changed = apply_changes(on_device, changes).to(self.learner.device, self.training.channels_last)
        losses = self.learner.accumulate(changed, self._group_size())
        if self._ends_group():
            self.learner.step(progress.step)
            progress.step += 1
        return losses

    def _finish_epoch(self) -> None:
        progress = self.progress
        metrics = validate(
            self.learner.fabric, self.learner.best_net, self.val_set, self.stage, self.training
        )
        score = monitored(metrics, self.stage.monitor)
        progress.history.append(self._row(metrics, score))
        progress.epoch += 1
        progress.iteration, progress.sums = 0, Progress().sums
        if progress.best_score is None or score > progress.best_score:
            progress.best_score, progress.best_epoch, progress.best_metrics = score, progress.epoch, metrics
            save_checkpoint(self.out_dir / BEST_NAME, self._checkpoint(metrics))
        patience = self.stage.patience
        progress.finished = progress.epoch >= self.stage.epochs or 0 < patience <= progress.stale_epochs
        self._report()
        self._save()

    def _report(self) -> None:
        progress = self.progress
        write_history(self.out_dir / "history.csv", progress.history)
        if progress.finished or time.monotonic() - self._drawn_at > _CURVES_SECONDS:
            draw_curves(self.out_dir / "curves.png", self.name, progress.history, progress.best_epoch)
            self._drawn_at = time.monotonic()
        if self.training.sample_predictions:
            path = self.out_dir / "samples" / f"epoch_{progress.epoch:03d}.png"
            draw_samples(path, self.learner, self.val_set, self.training.sample_predictions)

    def _row(self, metrics: Row, score: float) -> Row:
        total, mask, classification, count = self.progress.sums
        return {
            "epoch": self.progress.epoch + 1,
            "learning_rate": self.learner.largest_rate,
            "train_loss": total / count,
            "train_mask_loss": mask / count,
            "train_class_loss": classification / count,
            **metrics,
            "score": score,
            "seconds": self.progress.seconds,
        }

    def _checkpoint(self, metrics: Row) -> Checkpoint:
        return self.learner.checkpoint(self.name, self.fingerprint, metrics)

    def _batches(self) -> Iterator[Batch]:
        pin = self.learner.device.type == "cuda"
        return self.batches.iterate(self.progress.epoch, self.progress.iteration, pin)

    def _steps_per_epoch(self) -> int:
        return -(-len(self.batches) // self.training.accumulate)

    def _group_size(self) -> int:
        """Batches that share the step of the current one; the last group of an epoch may be smaller."""
        first = self.progress.iteration - self.progress.iteration % self.training.accumulate
        return min(self.training.accumulate, len(self.batches) - first)

    def _ends_group(self) -> bool:
        done = self.progress.iteration + 1
        return done % self.training.accumulate == 0 or done == len(self.batches)

    def _is_check(self) -> bool:
        """Whether to look at the losses; on a GPU that means waiting for it, so not after every batch."""
        done = self.progress.iteration
        often = self.learner.device.type == "cpu"
        return often or done % _CHECK_EVERY == 0 or done == len(self.batches)

    def _require_finite(self) -> None:
        if not torch.isfinite(torch.tensor(self.progress.sums)).all():
            raise TrainingError(
                f"the loss of {self.name} is not a number in {self.progress}; lower stages.{self.name}."
                f"learning_rates, or set training.precision=fp32, and delete {self.out_dir / STATE_NAME}"
            )

    def _count_seconds(self, started: float) -> float:
        now = time.perf_counter()
        self.progress.seconds += now - started
        return now

    def _save_if_due(self) -> None:
        """Save within an epoch, between two steps, so that no gradient is left over."""
        due = time.monotonic() - self._saved_at >= self.config.runtime.checkpoint_seconds
        if due and self.progress.iteration % self.training.accumulate == 0:
            self._save()

    def _save(self) -> None:
        tensors = {} if self.progress.finished else self.learner.state()
        save_state(self.out_dir / STATE_NAME, self.fingerprint, self.progress, tensors)
        self._saved_at = time.monotonic()
