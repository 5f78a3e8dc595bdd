"""The training loop: epochs of batches, whose random draws depend on their place in the stage alone."""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import torch

from slicewise.compute.device import Precision
from slicewise.compute.threads import Threads
from slicewise.config.schema import Config, Stage
from slicewise.core import activity
from slicewise.core.console import progress_bar, say
from slicewise.core.errors import CheckpointError, TrainingError
from slicewise.core.signals import defer_signals
from slicewise.data.loading.augment import apply_augmentation, draw_augmentation
from slicewise.data.loading.dataset import Batch, SliceDataset
from slicewise.data.loading.loader import TrainLoader, derive_seed
from slicewise.data.reference import describe_training
from slicewise.models.checkpoint import Checkpoint
from slicewise.training import model_selection, processes
from slicewise.training.artifacts import StageArtifacts, describe_epoch
from slicewise.training.learner import Learner, Losses, encode_targets
from slicewise.training.model_selection import Validation, validate
from slicewise.training.optim import AccumulationGroups, update_bn_statistics
from slicewise.training.state import Metrics, Progress, load_state, save_state

log = logging.getLogger(__name__)

REHEARSED_ROUNDS: Final = 3
"""Measurements of the pace of a stage"""
_READ_INTERVAL: Final = 20
"""Batches between two readings of the losses on a GPU, for which the CPU has to wait"""


def make_loader(name: str, config: Config, train_set: SliceDataset) -> TrainLoader:
    """Return the batches of a stage."""
    stage, shared = config.stages[name], config.training.iterations_per_epoch
    return TrainLoader(
        train_set,
        stage.sources,
        batch_size=config.training.batch_size,
        iterations=shared if stage.iterations_per_epoch is None else stage.iterations_per_epoch,
        key=(config.seed, name),
    )


class Pace(NamedTuple):
    """Seconds that the parts of a stage take."""

    batch: float
    """One batch"""
    closing: float
    """The end of an epoch: validation, state and figures"""
    start: float
    """Before the first epoch: the validation of the initial weights, where they may be kept"""


class Trainer:
    """Trains one stage; the arguments are those of `train_stage`."""

    def __init__(
        self,
        name: str,
        config: Config,
        train_set: SliceDataset,
        val_set: SliceDataset,
        out_dir: Path,
        start: Checkpoint | None,
        fingerprint: str,
        teacher: Checkpoint | None = None,
    ) -> None:
        self.name, self.config, self.val_set = name, config, val_set
        self.stage: Stage = config.stages[name]
        self.training, self.fingerprint = config.training, fingerprint
        self.batches = make_loader(name, config, train_set)
        self.groups = AccumulationGroups(len(self.batches), config.training.accumulate)
        self._start, self._out_dir, self._teacher = start, out_dir, teacher
        before = start or teacher
        earlier = before.reference if before else None
        self._reference = describe_training([*train_set.cases, *val_set.cases], fingerprint, earlier)
        self._build_learner()
        self.progress, self._state_path, self._saved_at = Progress(), out_dir / "last.pth", time.monotonic()
        self._may_keep_initial = start is not None and model_selection.may_keep_initial_weights(
            self.stage, start
        )
        self._is_consistent = False  # whether model, optimiser and progress are at the same point

    def _build_learner(self, precision: Precision | None = None) -> None:
        torch.manual_seed(derive_seed("weights", self.config.seed, self.name))
        steps = self.stage.epochs * len(self.groups)
        self.learner = Learner(self.stage, self.config, self._start, steps, precision, self._teacher)
        self._artifacts = StageArtifacts(
            self.name, self._out_dir, self.fingerprint, self.learner, self.val_set, self._reference
        )

    def resume(self) -> str | None:
        """Resume from `last.pth`, if it belongs to this run; return at which batch."""
        state = load_state(self._state_path, self.fingerprint)
        if state is None:
            return None
        self.progress, tensors = state
        if self.progress.precision not in (None, self.learner.precision):
            self._build_learner(self.progress.precision)
        if not self.progress.finished:
            try:
                self.learner.load_state(tensors)
            except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
                raise CheckpointError(
                    f"{self._state_path} does not fit this stage ({error}); move it aside and train again"
                ) from error
            log.info("%s resumes at %s", self.name, self.progress)
        return str(self.progress)

    def run(self, threads: Threads) -> None:
        """Train until the stage ends; when interrupted, save the state."""
        is_new = self.progress == Progress()
        self.progress.precision = self.learner.precision
        try:
            self._choose_threads(threads)
            if self._may_keep_initial and is_new:
                initial = self._validate()
                if model_selection.is_score_defined(initial.metrics, self.stage):
                    self.progress.start_metrics = initial.metrics
                    self._select(initial)
            while not self.progress.finished:
                self._train_epoch()
                num_images = self._finish_epoch()
                self._announce_epoch(num_images)
                self._choose_threads(threads)
        except KeyboardInterrupt:
            if self._is_consistent:
                self._save()
            raise

    def rehearse(self, threads: Threads) -> Pace:
        """Return the durations of the second epoch; no epoch is reported.

        In the first one memory is allocated, and kernels are compiled. The batches of the second one are
        trained several times, for a median: other programs may disturb one of them.
        """
        self._choose_threads(threads)
        self._train_epoch()
        self._finish_epoch()
        batch = median(self._measure_batches() for _ in range(REHEARSED_ROUNDS))
        started = time.perf_counter()
        self._finish_epoch()
        closing = time.perf_counter() - started
        return Pace(batch, closing, closing * self._may_keep_initial)

    def _measure_batches(self) -> float:
        """Train the batches of this epoch from its first one; return the mean seconds of one."""
        progress = self.progress
        progress.iteration, progress.sums = 0, Progress().sums
        before = progress.seconds
        self._train_epoch()
        return (progress.seconds - before) / len(self.batches)

    def _choose_threads(self, threads: Threads) -> None:
        """Choose the threads of the next epoch; one that is resumed midway keeps its number."""
        progress = self.progress
        if progress.finished:
            return
        if self.learner.device.type == "cpu" and (
            line := threads.choose(progress.num_threads if progress.iteration else 0)
        ):
            say(f"  {line}", "dim")
        progress.num_threads = threads.setting.number

    def _train_epoch(self) -> None:
        progress, total, on_cpu = self.progress, len(self.batches), self.learner.device.type == "cpu"
        before = progress.sums or [0.0] * (2 + len(self.learner.model.tasks))
        sums = torch.tensor(before, dtype=torch.float32, device=self.learner.device)
        title = f"{self.name} {progress.epoch + 1}/{self.stage.epochs}"
        epoch_bar = progress_bar(desc=title, total=total, unit="batch", initial=progress.iteration)
        with defer_signals() as signals, epoch_bar as bar:
            started = time.perf_counter()
            for batch in self._load(progress.iteration):
                self._is_consistent = False
                losses = self._train_batch(batch)
                parts = [losses.total, *losses.tasks.values(), torch.ones_like(losses.total)]
                sums += torch.stack(parts).detach() * len(batch)
                progress.iteration += 1
                progress.num_images += len(batch)
                due = progress.iteration % _READ_INTERVAL == 0 or progress.iteration == total
                if on_cpu or due or signals.pending:
                    progress.sums = tuple(sums.tolist())
                    if not all(map(math.isfinite, progress.sums)):
                        raise self._divergence_error()
                    now = time.perf_counter()
                    progress.seconds += now - started
                    started = now
                    bar.set_postfix_str(f"loss {progress.sums[0] / progress.sums[-1]:.3f}")
                    # After a step no gradient is left over.
                    self._is_consistent = self.groups.is_last(progress.iteration - 1)
                    age = time.monotonic() - self._saved_at
                    if self._is_consistent and age >= self.config.runtime.checkpoint_seconds:
                        self._save()
                if self._is_consistent:
                    signals.release()
                bar.update()

    def _train_batch(self, batch: Batch) -> Losses:
        progress, device = self.progress, self.learner.device
        place = (self.config.seed, self.name, progress.epoch, progress.iteration)
        seed = derive_seed("network", *place)  # of dropout, above all
        if device.type == "cpu":  # `torch.manual_seed` takes half a millisecond for other accelerators
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        training, seed = self.training, derive_seed("changes", *place)
        augmentation = draw_augmentation(
            training.augmentation, training.modality_dropout, batch.presence, seed
        )
        batch = encode_targets(batch.to(device), self.learner.model.tasks)
        augmented = apply_augmentation(batch, augmentation)
        losses = self.learner.accumulate(
            augmented.to(device, self.training.channels_last), self.groups.size(progress.iteration)
        )
        if self.groups.is_last(progress.iteration):
            self.learner.step(progress.step)
            progress.step += 1
        return losses

    def _finish_epoch(self) -> float:
        """Validate the epoch, select the best one, write state and figures; return its number of images."""
        progress, learner, training = self.progress, self.learner, self.training
        if training.precise_bn:  # an interrupted measurement is repeated from the epoch's first batch
            batches, layout = self._load(0, training.precise_bn), training.channels_last
            update_bn_statistics(learner.fabric, learner.best_model, batches, channels_last=layout)
        validation = self._validate()
        with defer_signals():
            self._is_consistent = False
            num_images = progress.sums[-1]
            progress.history.append(self._history_row(validation.metrics))
            progress.epoch += 1
            progress.iteration, progress.sums = 0, Progress().sums
            self._select(validation)
            reason = model_selection.stop_reason(progress, self.stage)
            progress.finished = reason is not None
            self._artifacts.report(progress)
            self._save()
            self._is_consistent = True
        return num_images

    def _announce_epoch(self, num_images: float) -> None:
        """Tell of the epoch that was finished last, and why it is the last one."""
        progress = self.progress
        self._tell(describe_epoch(self.name, self.stage, progress, num_images))
        reason = model_selection.stop_reason(progress, self.stage)
        if reason and progress.epoch < self.stage.epochs:
            self._tell(f"{self.name} stops after {progress.epoch} of {self.stage.epochs} epochs: {reason}")
        activity.finish_epoch(progress.history[-1])

    def _tell(self, line: str) -> None:
        """Print a line that stays, and log it."""
        say(f"  {line}")
        log.info("%s", line)

    def _validate(self) -> Validation:
        """Return the metrics; the last step of an epoch may have made weights NaN that no loss shows yet."""
        learner = self.learner
        if not all(bool(tensor.isfinite().all()) for tensor in learner.best_model.state_dict().values()):
            raise self._divergence_error()
        try:
            return validate(learner.fabric, learner.best_model, self.val_set, self.stage, self.training)
        except FloatingPointError as error:
            raise self._divergence_error() from error

    def _select(self, validation: Validation) -> None:
        if model_selection.update_best(self.progress, validation, self.stage):
            self._artifacts.save_best(validation.metrics)

    def _history_row(self, metrics: Metrics) -> Metrics:
        total, *losses, count = self.progress.sums
        tasks = zip(self.learner.model.tasks.values(), losses, strict=True)
        trained = ((task, loss) for task, loss in tasks if getattr(self.stage.objective, task.name))
        return {
            "epoch": self.progress.epoch + 1,
            "learning_rate": self.learner.max_lr,
            "train_loss": total / count,
            **{f"train_{task.head}_loss": loss / count for task, loss in trained},
            **metrics,
            "score": model_selection.monitor_score(metrics, self.stage),
            "seconds": self.progress.seconds,
            "num_threads": self.progress.num_threads,
        }

    def _load(self, start: int, stop: int | None = None) -> Iterator[Batch]:
        pin = self.learner.device.type == "cuda"
        return self.batches.iterate(self.progress.epoch, start, stop, pin=pin)

    def _divergence_error(self) -> TrainingError:
        return TrainingError(
            f"the loss of {self.name} is NaN or infinite in {self.progress}; lower "
            f"stages.{self.name}.learning_rates, or set training.precision=fp32 or training.clip_norm=1"
        )

    def _save(self) -> None:
        if processes.rank():
            return
        tensors = {} if self.progress.finished else self.learner.state()
        save_state(self._state_path, self.fingerprint, self.progress, tensors)
        self._saved_at = time.monotonic()
