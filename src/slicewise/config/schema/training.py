"""The three stages, and what they share."""

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from slicewise.config.schema.base import Count, CountOrZero, Fraction, NonNegative, Section

Monitor = Literal["dice", "auc", "dice+auc", "last"]
StageName = Literal["seg_warmup", "cls_head", "joint"]
Part = Literal["encoder", "decoder", "head"]


class MaskLoss(Section):
    """Weights of the segmentation losses; a weight of 0 leaves the term out."""

    bce: NonNegative
    dice: NonNegative
    iou: NonNegative
    focal: NonNegative
    tversky: NonNegative

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any((self.bce, self.dice, self.iou, self.focal, self.tversky)):
            raise ValueError("every mask loss has weight 0")
        return self


class Objective(Section):
    """Weights of the two tasks in a stage's loss; 0 leaves the task out."""

    segmentation: NonNegative
    classification: NonNegative

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.segmentation or self.classification):
            raise ValueError("segmentation and classification both have weight 0: there is nothing to learn")
        return self


class SourceWeights(Section):
    """Share of each source in a stage's batches; a share without its source goes to the other one."""

    volumes: Fraction
    pictures: Fraction

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.volumes + self.pictures:
            raise ValueError("volumes and pictures both have share 0")
        return self


class LearningRates(Section):
    """Peak learning rate per part; 0 freezes the part: weights and batch-norm statistics."""

    encoder: NonNegative
    decoder: NonNegative
    head: NonNegative

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any((self.encoder, self.decoder, self.head)):
            raise ValueError("every part has learning rate 0: there is nothing to learn")
        return self


class Stage(Section):
    """One training stage, as data. The loop is the same for all of them."""

    starts_from: StageName | None
    """The stage whose best weights this one begins with: the one directly before it, or null for none."""
    epochs: Count
    """Epochs at most."""
    iterations_per_epoch: CountOrZero | None
    """In place of `training.iterations_per_epoch`; None keeps to that."""
    learning_rates: LearningRates
    frozen_statistics: bool
    """Whether batch norms keep, and normalise with, the statistics of the start, if there is one."""
    objective: Objective
    sources: SourceWeights
    monitor: Monitor
    """The validation figures in which the latest epoch must not be significantly worse; `last`: none."""
    patience: CountOrZero
    """Epochs without a higher score before the stage stops; 0 never stops early."""


class Stages(Section):
    """The three stages in order."""

    seg_warmup: Stage
    cls_head: Stage
    joint: Stage

    @model_validator(mode="after")
    def _check(self) -> Self:
        # A training step reads the checkpoint of the one before it and of no other.
        before: StageName | None = None
        for name in get_args(StageName):
            start = getattr(self, name).starts_from
            if start not in (None, before):
                possible = f"{before} or null" if before else "null"
                raise ValueError(
                    f"{name}.starts_from is {start}, but a stage begins with the weights of the one "
                    f"directly before it, or with none; set {name}.starts_from to {possible}"
                )
            before = name
        return self


class Optimizer(Section):
    """torch.optim's Adam, AdamW or SGD."""

    name: Literal["adam", "adamw", "sgd"]
    weight_decay: NonNegative
    """Of convolutions and linear layers; norms and biases are not decayed."""
    momentum: Fraction
    """Momentum of SGD; Adam's first moment decay."""


class Scheduler(Section):
    """How the learning rates move over the iterations of a stage."""

    name: Literal["constant", "cosine", "poly", "step"]
    warmup_fraction: Fraction
    """Share of the stage's iterations over which the rate climbs linearly from 0."""
    final_fraction: Fraction
    """Share of the peak rate that cosine and poly end at, and by which step multiplies."""


class Augmentation(Section):
    """Random changes applied to a whole batch on the training device; image and mask move together."""

    flip: Fraction
    """Probability of a left-right mirror."""
    rotation: NonNegative
    """Largest rotation, degrees."""
    scale: Annotated[float, Field(ge=0, lt=1)]
    """Largest relative change of size."""
    translation: Annotated[float, Field(ge=0, lt=1)]
    """Largest shift, as a share of the image side."""
    elastic: Annotated[float, Field(ge=0, le=0.1)]
    """Standard deviation of a smooth displacement, as a share of the image side."""
    intensity: NonNegative
    """Largest change of contrast (factor) and brightness (standard deviations)."""
    bias: Annotated[float, Field(ge=0, lt=1)]
    """Largest smooth change of brightness over the image, as by a coil's sensitivity; a share of it."""
    noise: NonNegative
    """Standard deviation of added Gaussian noise, in z-score units."""


class Training(Section):
    """What all stages share."""

    start_from: Path | None
    """A best_model.pth of another run, of the same `model`, whose weights the first stage begins with."""
    batch_size: Count
    """Slices in a batch."""
    iterations_per_epoch: CountOrZero
    """Batches in an epoch; 0 takes one round of the training slices, see `preprocessing.healthy_ratio`."""
    optimizer: Optimizer
    scheduler: Scheduler
    mask_loss: MaskLoss
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)]
    """Labels are drawn so far towards 0.5 (Szegedy 2016): with 0.1 the head aims at 0.05 and 0.95."""
    clip_norm: NonNegative
    """Largest norm of the gradient; 0 does not clip."""
    accumulate: Count
    """Batches whose gradients are summed before a step."""
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    """Of the computation; weights stay fp32. `auto` is bf16 where the hardware is faster in it, else fp32."""
    channels_last: bool
    """Memory layout of the images: channels side by side, which is faster on most machines."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the moving average of the weights that is evaluated and kept; 0 keeps the raw ones."""
    precise_bn: CountOrZero
    """Batches, unchanged, on which batch-norm statistics are measured anew after each epoch; 0: none."""
    modality_dropout: Fraction
    """Probability that an image keeps only some of its filled slots, one to all of them, in training."""
    augmentation: Augmentation
    sample_predictions: CountOrZero
    """Validation slices drawn to `samples/` after each epoch."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: batch normalisation needs more than one image")
        return self
