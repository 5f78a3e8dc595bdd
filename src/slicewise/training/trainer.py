"""A stage under way: epochs of batches, each drawn from its place in the stage alone."""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from slicewise.compute.precision import Precision
from slicewise.compute.threads import Threads
from slicewise.config.schema import Config, Stage
from slicewise.config.schema.training import StageName
from slicewise.core.console import progress_bar, say
from slicewise.core.errors import CheckpointError, TrainingError
from slicewise.core.signals import defer_signals
from slicewise.data.loading.augment import apply_augmentation, draw_augmentation
from slicewise.data.loading.dataset import Batch, SliceDataset
from slicewise.data.loading.loader import TrainLoader
from slicewise.data.loading.sampler import derive_seed
from slicewise.models.checkpoint import Checkpoint
from slicewise.training.accumulation import AccumulationGroups
from slicewise.training.artifacts import StageArtifacts
from slicewise.training.fabric import seed_generator
from slicewise.training.learner import Learner
from slicewise.training.model_selection import is_significantly_worse, patient_pseudovalues
from slicewise.training.objective import ActiveTasks, Losses, may_keep_initial_weights
from slicewise.training.state import Metrics, Progress, load_state, save_state
from slicewise.training.validation import Validation, is_score_defined, monitor_score, validate

log = logging.getLogger(__name__)

STATE_NAME: Final = "last.pth"
_READ_INTERVAL: Final = 20


class Trainer:
    """What `train_stage` does; the arguments are the same."""

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
        self.name, self.stage, self.config, self.val_set = name, stage, config, val_set
        self.training, self.fingerprint = config.training, fingerprint
        self.batches = TrainLoader(
            train_set,
            stage.sources,
            batch_size=config.training.batch_size,
            iterations=self._iterations(),
            key=(config.seed, name),
        )
        self.groups = AccumulationGroups(len(self.batches), config.training.accumulate)
        self._start, self._out_dir = start, out_dir
        self._build_learner()
        self.progress = Progress()
        self._state_path = out_dir / STATE_NAME
        self._saved_at = time.monotonic()
        self._may_keep_initial = start is not None and may_keep_initial_weights(config, name)
        self._is_consistent = False  # whether network, optimiser and progress are at the same point

    def _build_learner(self, precision: Precision | None = None) -> None:
        torch.manual_seed(derive_seed("weights", self.config.seed, self.name))
        steps = self.stage.epochs * len(self.groups)
        self.learner = Learner(self.stage, self.config, self._start, steps, precision)
        self._artifacts = StageArtifacts(
            self.name, self._out_dir, self.fingerprint, self.learner, self.val_set
        )

    def _iterations(self) -> int:
        """Return the batches of an epoch; 0 takes every slice once."""
        own = self.stage.iterations_per_epoch
        return self.training.iterations_per_epoch if own is None else own

    def resume(self) -> str | None:
        """Go on where `last.pth` ends, if it belongs to this run; return where that is."""
        found = load_state(self._state_path, self.fingerprint)
        if found is None:
            return None
        self.progress, tensors = found
        if self.progress.precision not in (None, self.learner.precision):
            self._build_learner(self.progress.precision)
        if not self.progress.finished:
            self._load_tensors(tensors)
            log.info("%s goes on at %s", self.name, self.progress)
        return str(self.progress)

    def _load_tensors(self, tensors: dict[str, Any]) -> None:
        try:
            self.learner.load_state(tensors)
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{self._state_path} does not fit this stage ({error}); move it aside and train again"
            ) from error

    def run(self, threads: Threads) -> None:
        """Train until the last epoch, or until patience ends; when stopped, save where that was."""
        is_new = self.progress == Progress()
        self.progress.precision = self.learner.precision
        try:
            self._choose_threads(threads)
            if self._may_keep_initial and is_new:
                self._validate_initial()
            while not self.progress.finished:
                self._train_epoch()
                self._finish_epoch()
                self._choose_threads(threads)
        except KeyboardInterrupt:
            if self._is_consistent:
                self._save()
            raise

    def _choose_threads(self, threads: Threads) -> None:
        """Choose the threads of the next epoch. One that is resumed midway keeps its number."""
        progress = self.progress
        if progress.finished:
            return
        if self.learner.device.type == "cpu" and (
            line := threads.choose(progress.num_threads if progress.iteration else 0)
        ):
            say(f"  {line}", "dim")
        progress.num_threads = threads.setting.number

    def _validate_initial(self) -> None:
        """Make the model that the stage begins with the one that its epochs are compared with."""
        found = self._validate()
        if is_score_defined(found.metrics, self.stage.monitor):
            self.progress.start_metrics = found.metrics
            self._update_best(found)

    def _train_epoch(self) -> None:
        progress, total = self.progress, len(self.batches)
        sums = torch.tensor(progress.sums, dtype=torch.float32, device=self.learner.device)
        title = f"{self.name} {progress.epoch + 1}/{self.stage.epochs}"
        bar_of_epoch = progress_bar(desc=title, total=total, unit="batch", initial=progress.iteration)
        with defer_signals() as hold, bar_of_epoch as bar:
            started = time.perf_counter()
            for batch in self._batches(progress.iteration):
                self._is_consistent = False
                losses = self._train_batch(batch)
                sums += torch.stack([*losses, torch.ones_like(losses.total)]).detach() * len(batch)
                progress.iteration += 1
                progress.num_images += len(batch)
                if self._should_read_losses() or hold.pending:
                    progress.sums = tuple(sums.tolist())
                    self._require_finite()
                    started = self._count_seconds(started)
                    bar.set_postfix_str(f"loss {progress.sums[0] / progress.sums[3]:.3f}")
                    self._is_consistent = self.groups.is_last(progress.iteration - 1)
                    self._save_if_due()
                if self._is_consistent:
                    hold.release()
                bar.update()

    def _train_batch(self, batch: Batch) -> Losses:
        """Learn from one batch. Every draw depends on its place in the stage alone."""
        progress = self.progress
        place = (self.config.seed, self.name, progress.epoch, progress.iteration)
        seed_generator(derive_seed("network", *place), self.learner.device.type)
        changes = draw_augmentation(
            self.training.augmentation,
            self.training.modality_dropout,
            batch.presence,
            derive_seed("changes", *place),
        )
        on_device = batch.to(self.learner.device)
        changed = apply_augmentation(on_device, changes).to(self.learner.device, self.training.channels_last)
        losses = self.learner.accumulate(changed, self.groups.size(progress.iteration))
        if self.groups.is_last(progress.iteration):
            self.learner.step(progress.step)
            progress.step += 1
        return losses

    def _finish_epoch(self) -> None:
        if self.training.precise_bn:
            self._update_bn_statistics()
        found = self._validate()
        with defer_signals():
            self._is_consistent = False
            self._close_epoch(found)
            self._is_consistent = True

    def _update_bn_statistics(self) -> None:
        """Use the epoch's first batches without augmentation; what was cut off is done again."""
        self.learner.update_bn_statistics(self._batches(0, self.training.precise_bn))

    def _validate(self) -> Validation:
        """Return the metrics; the last step of an epoch may have spoilt what no loss has shown yet."""
        learner = self.learner
        if not learner.is_best_finite():
            raise self._divergence_error()
        try:
            return validate(learner.fabric, learner.best_model, self.val_set, self.stage, self.training)
        except FloatingPointError as error:
            raise self._divergence_error() from error

    def _close_epoch(self, found: Validation) -> None:
        progress = self.progress
        progress.history.append(self._history_row(found.metrics))
        progress.epoch += 1
        progress.iteration, progress.sums = 0, Progress().sums
        self._update_best(found)
        patience = self.stage.patience
        progress.finished = (
            progress.epoch >= self.stage.epochs
            or 0 < patience <= progress.stale_epochs
            or self._never_improved()
        )
        self._artifacts.report(progress)
        self._save()

    def _update_best(self, found: Validation) -> None:
        """Keep the weights unless they are significantly worse than the kept ones with the highest score.

        The learning rate falls to the end of a stage, so that the latest epoch is expected to be the best;
        the highest of several scores on few validation patients is so by luck as well.
        """
        progress, monitor = self.progress, self.stage.monitor
        score = monitor_score(found.metrics, monitor)
        values = {} if monitor == "last" else patient_pseudovalues(self.val_set, found.scores, monitor)
        if is_significantly_worse(values, progress.top_values):
            return
        progress.best_epoch, progress.best_metrics = progress.epoch, found.metrics
        self._artifacts.save_best(found.metrics)
        if monitor == "last" or progress.top_score is None or score > progress.top_score:
            progress.top_score, progress.top_epoch, progress.top_values = score, progress.epoch, values

    def _never_improved(self) -> bool:
        """Whether all epochs of the first half were significantly worse than the start."""
        progress = self.progress
        return (
            bool(progress.start_metrics)
            and not progress.best_epoch
            and 2 * progress.epoch >= self.stage.epochs
        )

    def _history_row(self, metrics: Metrics) -> Metrics:
        total, mask, classification, count = self.progress.sums
        trained = ActiveTasks.trained(self.stage.objective)
        parts = {"train_mask_loss": mask} if trained.segment else {}
        parts |= {"train_class_loss": classification} if trained.classify else {}
        return {
            "epoch": self.progress.epoch + 1,
            "learning_rate": self.learner.max_lr,
            "train_loss": total / count,
            **{name: value / count for name, value in parts.items()},
            **metrics,
            "score": monitor_score(metrics, self.stage.monitor),
            "seconds": self.progress.seconds,
            "num_threads": self.progress.num_threads,
        }

    def _batches(self, start: int, stop: int | None = None) -> Iterator[Batch]:
        pin = self.learner.device.type == "cuda"
        return self.batches.iterate(self.progress.epoch, start, stop, pin=pin)

    def _should_read_losses(self) -> bool:
        """Whether to read the losses; on a GPU that means waiting for it, so not after every batch."""
        done = self.progress.iteration
        often = self.learner.device.type == "cpu"
        return often or done % _READ_INTERVAL == 0 or done == len(self.batches)

    def _require_finite(self) -> None:
        if not all(map(math.isfinite, self.progress.sums)):
            raise self._divergence_error()

    def _divergence_error(self) -> TrainingError:
        return TrainingError(
            f"the loss of {self.name} is not a number in {self.progress}; lower "
            f"stages.{self.name}.learning_rates, or set training.precision=fp32 or training.clip_norm=1"
        )

    def _count_seconds(self, started: float) -> float:
        now = time.perf_counter()
        self.progress.seconds += now - started
        return now

    def _save_if_due(self) -> None:
        """Save within an epoch, between two steps, so that no gradient is left over."""
        due = time.monotonic() - self._saved_at >= self.config.runtime.checkpoint_seconds
        if due and self._is_consistent:
            self._save()

    def _save(self) -> None:
        tensors = {} if self.progress.finished else self.learner.state()
        save_state(self._state_path, self.fingerprint, self.progress, tensors)
        self._saved_at = time.monotonic()
