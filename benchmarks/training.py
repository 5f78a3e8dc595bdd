"""An epoch of `training.trainer`, and the bare step that it is compared with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.bench import Bench
from slicewise.compute.device import choose_precision
from slicewise.config.schema import Config, Stage
from slicewise.core.machine import keep_freed_memory
from slicewise.data.loading.dataset import Batch, SliceDataset
from slicewise.models.multitask import MultitaskModel
from slicewise.tasks.build import make_tasks
from slicewise.training.learner import compute_losses, encode_targets
from slicewise.training.optim import ModelEMA, make_optimizer, parameter_groups
from slicewise.training.stage import deterministic_kernels
from slicewise.training.trainer import Trainer

_NO_SAVES = 1e6
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class OurEpochs:
    """The training batches of the joint stage: no validation, no checkpoint."""

    def __init__(self, bench: Bench) -> None:
        config = _sized(bench.config, bench.size.iterations)
        self.stage = config.stages["joint"]
        self.dataset = SliceDataset({"volumes": bench.slices}, preload_mib=2048)
        out_dir = bench.folder / "stage"
        self.run = Trainer("joint", config, self.dataset, self.dataset, out_dir, None, "benchmark")
        self.num_images = bench.size.iterations * config.training.batch_size

    def train_epoch(self) -> None:
        """Train the next epoch by the trainer's own method: a copy here would measure something else."""
        self.run.progress.iteration = 0
        self.run._train_epoch()
        self.run.progress.epoch += 1

    def batch(self) -> Batch:
        """Return one batch without augmentation."""
        return next(iter(self.run.batches.iterate(0)))


class BareSteps:
    """Forward, backward and optimiser on one resident batch: no loading, augmentation or logging.

    Weights are averaged where ours are: that is not part of the data path. `clips` as usual, by
    `torch.nn.utils.clip_grad_norm_`.
    """

    def __init__(self, config: Config, batch: Batch, *, clips: bool = False) -> None:
        self.max_norm = config.training.clip_norm if clips else 0.0
        training, self.stage, self.config = config.training, config.stages["joint"], config
        model = MultitaskModel(config.model, config.tasks)
        if training.channels_last:
            model.to(memory_format=torch.channels_last)
        self.model = model.train()
        self.batch = encode_targets(batch.to(torch.device("cpu"), training.channels_last), model.tasks)
        groups = parameter_groups(model, self.stage.learning_rates, training.optimizer.weight_decay)
        self.optimizer = make_optimizer(training.optimizer, groups, fused=True)
        self.average = ModelEMA(model, training.ema_decay) if training.ema_decay else None
        self.precision = _DTYPES[choose_precision(training.precision, "cpu").precision]

    def train(self, count: int) -> None:
        """Take `count` steps."""
        for _ in range(count):
            self._step()

    def _step(self) -> None:
        batch = self.batch
        with torch.autocast("cpu", self.precision, enabled=self.precision != torch.float32):
            outputs = self.model(batch.images, batch.presence)
        losses = compute_losses(outputs, batch, self.model.tasks, self.stage.objective, self.config.training)
        torch.autograd.backward(losses.total)
        if self.max_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update()


def usual_model(config: Config) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return the same model and optimiser as usual: fp32, channels first."""
    model = MultitaskModel(config.model, config.tasks).train()
    rates, decay = config.stages["joint"].learning_rates, config.training.optimizer.weight_decay
    return model, torch.optim.AdamW(model.parameters(), lr=rates.decoder, weight_decay=decay)


def usual_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, stage: Stage, config: Config, batch: Batch
) -> float:
    """Take one step in fp32 and return the loss, as for a log."""
    optimizer.zero_grad()
    tasks = make_tasks(config.tasks)
    logits = model(batch.images, batch.presence)
    losses = compute_losses(logits, encode_targets(batch, tasks), tasks, stage.objective, config.training)
    total: Tensor = losses.total
    torch.autograd.backward(total)
    optimizer.step()
    return float(total.detach())


@contextmanager
def training_environment(config: Config) -> Iterator[None]:
    """Set up this process as the training step does, for both candidates of a pair."""
    keep_freed_memory()
    torch.manual_seed(config.seed)
    with deterministic_kernels(config.runtime, "benchmark") as threads:
        if line := threads.choose():
            print(f"  {line}", flush=True)
        yield


def _sized(config: Config, iterations: int) -> Config:
    training = config.training.model_copy(update={"iterations_per_epoch": iterations})
    runtime = config.runtime.model_copy(update={"checkpoint_seconds": _NO_SAVES})
    joint = config.stages["joint"].model_copy(update={"epochs": 1000, "iterations_per_epoch": None})
    stages = {**config.stages, "joint": joint}
    return config.model_copy(update={"training": training, "runtime": runtime, "stages": stages})
