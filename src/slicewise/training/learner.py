"""A network, its optimiser and the device, tied together by Fabric."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch

from slicewise.compute.precision import Precision, choose_precision
from slicewise.config.schema import Config, Stage
from slicewise.config.schema.training import StageName
from slicewise.core.labels import CLASS_NAMES
from slicewise.data.batches import Batch
from slicewise.models.checkpoint import Checkpoint, transfer
from slicewise.models.freezing import set_frozen
from slicewise.models.multitask import PARTS, MultitaskNet, build_model
from slicewise.models.program import Plain, record
from slicewise.training.averaging import WeightAverage
from slicewise.training.device import choose_device, make_fabric
from slicewise.training.optim import (
    clip_gradients,
    make_optimizer,
    parameter_groups,
    rate_factor,
    set_rates,
)
from slicewise.training.precise import measure_statistics
from slicewise.training.state import Row
from slicewise.training.tasks import Losses, TaskNet, Tasks, compute_losses, not_taught


class Learner:
    """What changes while a stage trains, besides its `Progress`.

    Args:
        stage: what to learn and how fast.
        config: everything the stages share.
        start: the checkpoint to begin with; None for a new network.
        num_steps: optimiser steps of the whole stage, for the learning rates.
        precision: in place of `training.precision`.
    """

    def __init__(
        self,
        stage: Stage,
        config: Config,
        start: Checkpoint | None,
        num_steps: int,
        precision: Precision | None = None,
    ) -> None:
        self.stage, self.config, self.num_steps = stage, config, num_steps
        training = config.training
        chosen = choose_precision(training.precision, choose_device(config.runtime.device))
        self.precision, self.precision_reason = (precision, "as the stage was begun") if precision else chosen
        self.fabric = make_fabric(config.runtime, self.precision)
        self.net = _begin(config, start)
        self._not_trained = not_taught(stage, start)
        frozen = [part for part in PARTS if not getattr(stage.learning_rates, part)]
        set_frozen(self.net, frozen, statistics=stage.frozen_statistics and start is not None)
        if training.channels_last:
            self.net.to(memory_format=torch.channels_last)
        self._module = self.fabric.setup_module(TaskNet(self.net, Tasks.learned(stage.objective)))
        groups = parameter_groups(self.net, stage.learning_rates, training.optimizer.weight_decay)
        fused = self.precision != "fp16"  # its scaler cannot clip before a fused step
        self._learning = [weight for weight in self.net.parameters() if weight.requires_grad]
        optimizer = self.fabric.setup_optimizers(make_optimizer(training.optimizer, groups, fused=fused))
        assert not isinstance(optimizer, tuple)
        self._optimizer = optimizer
        self._average = WeightAverage(self.net, training.ema_decay) if training.ema_decay else None

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    @property
    def best_net(self) -> MultitaskNet:
        """The network to evaluate and keep: with averaged weights, where they are averaged."""
        return self._average.net if self._average else self.net

    def measure_statistics(self, batches: Iterable[Batch]) -> None:
        """Measure the batch-norm statistics of `best_net` anew; see `training.precise`."""
        measure_statistics(
            self.fabric, self.best_net, batches, channels_last=self.config.training.channels_last
        )

    def best_is_finite(self) -> bool:
        """Whether `best_net` holds numbers alone; an infinite variance, say, shows in none of its answers."""
        return all(bool(tensor.isfinite().all()) for tensor in self.best_net.state_dict().values())

    @property
    def largest_rate(self) -> float:
        return max(float(group["lr"]) for group in self._optimizer.param_groups)

    def accumulate(self, batch: Batch, group_size: int) -> Losses:
        """Add the gradient of one of `group_size` batches."""
        if not self.net.training:  # setting it takes half a millisecond
            self.net.train()
        answers = self._module(batch.images, batch.presence)
        losses = compute_losses(answers, batch, self.stage.objective, self.config.training)
        self.fabric.backward(losses.total / group_size)
        return losses

    def step(self, number: int) -> None:
        """Take optimiser step `number` (from 0) with the gradients that were added."""
        if self.config.training.clip_norm:
            self._clip(self.config.training.clip_norm)
        set_rates(
            self._optimizer.param_groups, rate_factor(self.config.training.scheduler, number, self.num_steps)
        )
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._average:
            self._average.update()

    def _clip(self, max_norm: float) -> None:
        if self.precision == "fp16":  # Fabric undoes the loss scale first
            self.fabric.clip_gradients(
                self._module, self._optimizer, max_norm=max_norm, error_if_nonfinite=False
            )
        else:
            clip_gradients(self._learning, max_norm)

    def state(self) -> dict[str, Any]:
        """Return every tensor and number that the next batch depends on."""
        return {
            "weights": self.net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "average": self._average.state_dict() if self._average else {},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.net.load_state_dict(state["weights"], strict=True)
        self._optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self._average:
            self._average.load_state_dict(state["average"])

    def checkpoint(self, stage: StageName, fingerprint: str, metrics: Row) -> Checkpoint:
        """Return the network as it is evaluated, with all that a Predictor needs."""
        config = self.config
        return Checkpoint(
            weights={name: tensor.detach().cpu() for name, tensor in self.best_net.state_dict().items()},
            model=config.model,
            preprocessing=config.preprocessing,
            class_names=CLASS_NAMES,
            stage=stage,
            metrics=metrics,
            fingerprint=fingerprint,
            data_name=config.data.name,
            synthetic=config.data.synthetic,
            slot=config.data.pictures.slot,
            not_trained=self._not_trained,
            program=self._program,
        )

    @cached_property
    def _program(self) -> Plain | None:
        """The calls of the network, which no training changes."""
        return record(self.best_net, self.config.preprocessing.image_size)


def _begin(config: Config, start: Checkpoint | None) -> MultitaskNet:
    """Build the network; pretrained weights are fetched only where no checkpoint overwrites them."""
    if start is None:
        return build_model(config.model)
    net = build_model(config.model.model_copy(update={"encoder_weights": None}))
    transfer(net, start)
    return net
