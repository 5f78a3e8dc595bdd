"""A model, its loss, its optimiser and its averaged weights on one device, tied together by Fabric."""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor

from slicewise.compute.device import Precision, choose_device, choose_precision
from slicewise.config.schema import Config, Objective, Runtime, Stage, Training
from slicewise.config.schema.model import TaskName
from slicewise.data.loading.dataset import Batch
from slicewise.models.checkpoint import Checkpoint, load_weights
from slicewise.models.multitask import PARTS, MultitaskModel
from slicewise.models.program import SerializedProgram, export_program
from slicewise.tasks.base import Task
from slicewise.tasks.build import find_segmentation
from slicewise.training import optim, processes
from slicewise.training.state import Metrics

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it logs the precision on every start

_FABRIC_PRECISION: Final[dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
Tasks = Mapping[TaskName, Task]


def make_fabric(runtime: Runtime, precision: Precision) -> Fabric:
    """Return Fabric on one device, in one process; those that share a training have one each.

    The environment is named, because Fabric would otherwise look for a cluster's: with `srun` on the path it
    warns, and in an allocation it takes the number of processes from the variables of Slurm, LSF or torchrun.
    The variables of `fabric run` (LT_DEVICES and the like) are hidden, because they override the arguments.

    Raises:
        UsageError: the configured device is not on this machine.
    """
    hidden = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("LT_")}
    try:
        device = choose_device(runtime.device).type
        return Fabric(
            accelerator=device,
            devices=[processes.rank()] if device == "cuda" and processes.is_shared() else 1,
            precision=_FABRIC_PRECISION[precision],
            plugins=LightningEnvironment(),
        )
    finally:
        os.environ.update(hidden)


class Losses(NamedTuple):
    """Scalars, fp32."""

    total: Tensor
    tasks: dict[TaskName, Tensor]
    """Of each task of the recipe, unweighted; 0 where it was not computed"""


def encode_targets(batch: Batch, tasks: Tasks) -> Batch:
    """Return a batch with the masks of the classes, float [B, class, row, col]; none without the task."""
    task = find_segmentation(tasks)
    return replace(batch, masks=task.encode(batch.masks) if task else batch.masks[:, :0].float())


def compute_losses(
    logits: Mapping[TaskName, Tensor],
    batch: Batch,
    tasks: Tasks,
    objective: Objective,
    training: Training,
    teacher: Mapping[TaskName, Tensor] = MappingProxyType({}),
) -> Losses:
    """Return the stage's loss, and that of each task with logits; `batch` has encoded targets.

    The logits of a teacher count as much as the truth.
    """
    zero = torch.zeros((), device=batch.labels.device)
    losses = {
        name: task.loss(logits[name], batch, training) if name in logits else zero
        for name, task in tasks.items()
    }
    for name in teacher.keys() & logits.keys():
        imitation = tasks[name].distillation_loss(logits[name], teacher[name])
        losses[name] = (losses[name] + imitation) / 2
    total = torch.stack([getattr(objective, name) * loss for name, loss in losses.items()]).sum()
    return Losses(total, losses)


class Learner:
    """All that changes while a stage trains, besides its `Progress`.

    Args:
        stage: objective and learning rates.
        config: everything the stages share.
        start: the checkpoint with the initial weights; None for a new model.
        num_steps: optimiser steps of the whole stage, for the learning rates.
        precision: in place of `training.precision`.
        teacher: a model of the same tasks, whose probabilities count as much as the truth.
    """

    def __init__(
        self,
        stage: Stage,
        config: Config,
        start: Checkpoint | None,
        num_steps: int,
        precision: Precision | None = None,
        teacher: Checkpoint | None = None,
    ) -> None:
        self.stage, self.config, self.num_steps = stage, config, num_steps
        training = config.training
        chosen = choose_precision(training.precision, choose_device(config.runtime.device).type)
        self.precision, self.precision_reason = (precision, "as the stage was begun") if precision else chosen
        self.fabric = make_fabric(config.runtime, self.precision)
        self.device = self.fabric.device
        # Pretrained weights are downloaded only where no checkpoint overwrites them.
        unless_loaded = {"encoder_weights": None} if start else {}
        self.model = MultitaskModel(
            config.model.model_copy(update=unless_loaded), config.tasks, len(config.preprocessing.channels)
        )
        if start:
            load_weights(self.model, start)
        trained_before = start.tasks.names if start else ()
        self.trained_tasks = config.tasks.only(stage.trained_tasks.union(trained_before))
        frozen = [part for part in PARTS if not getattr(stage.learning_rates, part)]
        self.model.freeze(frozen, statistics=stage.frozen_statistics and start is not None)
        if training.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self._module = self.fabric.setup_module(self.model)
        self._teacher = teacher.build().requires_grad_(False).to(self.device) if teacher else None
        if self._teacher and training.channels_last:
            self._teacher.to(memory_format=torch.channels_last)
        self._active = [name for name in self.model.tasks if getattr(stage.objective, name)]
        groups = optim.parameter_groups(self.model, stage.learning_rates, training.optimizer.weight_decay)
        fused = self.precision != "fp16"  # its scaler cannot clip before a fused step
        self._trainable = [weight for weight in self.model.parameters() if weight.requires_grad]
        optimizer = self.fabric.setup_optimizers(
            optim.make_optimizer(training.optimizer, groups, fused=fused)
        )
        assert not isinstance(optimizer, tuple)
        self._optimizer = optimizer
        self._average = optim.ModelEMA(self.model, training.ema_decay) if training.ema_decay else None

    @property
    def best_model(self) -> MultitaskModel:
        """The model to validate and save: with averaged weights, where they are averaged."""
        return self._average.model if self._average else self.model

    @property
    def max_lr(self) -> float:
        return max(float(group["lr"]) for group in self._optimizer.param_groups)

    def accumulate(self, batch: Batch, group_size: int) -> Losses:
        """Add the gradient of one of `group_size` batches."""
        if not self.model.training:  # setting it takes half a millisecond
            self.model.train()
        with self.fabric.autocast():  # the module of Fabric does the same, and its checks take 1 % of a step
            logits = processes.shared_forward(self.model, batch.images, batch.presence, self._active)
        losses = compute_losses(
            logits,
            batch,
            self.model.tasks,
            self.stage.objective,
            self.config.training,
            self._teach(batch),
        )
        self.fabric.backward(losses.total / group_size)
        return losses

    @torch.no_grad()
    def _teach(self, batch: Batch) -> Mapping[TaskName, Tensor]:
        """Return the teacher's logits of a batch; none without a teacher."""
        if self._teacher is None:
            return {}
        with self.fabric.autocast():
            logits: Mapping[TaskName, Tensor] = self._teacher(batch.images, batch.presence, self._active)
        return logits

    def step(self, number: int) -> None:
        """Take optimiser step `number` (from 0) with the accumulated gradients."""
        processes.average_gradients(self._trainable)
        max_norm = self.config.training.clip_norm
        if max_norm and self.precision == "fp16":  # Fabric undoes the loss scale first
            self.fabric.clip_gradients(
                self._module, self._optimizer, max_norm=max_norm, error_if_nonfinite=False
            )
        elif max_norm:
            optim.clip_gradients(self._trainable, max_norm)
        factor = optim.lr_factor(self.config.training.scheduler, number, self.num_steps)
        optim.set_learning_rates(self._optimizer.param_groups, factor)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._average:
            self._average.update()

    def state(self) -> dict[str, Any]:
        """Return every tensor and number that the next batch depends on."""
        return {
            "weights": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "average": self._average.state_dict() if self._average else {},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.model.load_state_dict(state["weights"], strict=True)
        self._optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self._average:
            self._average.load_state_dict(state["average"])

    def checkpoint(self, stage: str, fingerprint: str, metrics: Metrics) -> Checkpoint:
        """Return the model as it is validated, with all that prediction needs."""
        config, channels = self.config, self.config.preprocessing.channels
        return Checkpoint(
            weights={name: tensor.detach().cpu() for name, tensor in self.best_model.state_dict().items()},
            model=config.model,
            preprocessing=config.preprocessing,
            tasks=self.trained_tasks,
            stage=stage,
            metrics=metrics,
            fingerprint=fingerprint,
            data_name=config.data.name,
            synthetic=config.data.synthetic,
            slot=config.data.slot if config.data.slot in channels else channels[0],
            program=self._program,
        )

    @cached_property
    def _program(self) -> SerializedProgram | None:
        """The calls of a forward pass, which training does not change."""
        return export_program(self.best_model, self.config.preprocessing.image_size, self.trained_tasks.names)
