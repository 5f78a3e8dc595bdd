"""The training stages, and the settings they share."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from slicewise.config.schema.base import Count, CountOrZero, Fraction, Name, NonNegative, Section
from slicewise.config.schema.model import LOSSES, TaskName
from slicewise.config.schema.sources import SourceKey

LAST_EPOCH: Final = "last"
Part = Literal["encoder", "decoder", "head"]
PART_OF_TASK: Final[dict[TaskName, Part]] = {"segmentation": "decoder", "classification": "head"}
"""The part of the model that holds the head of a task."""


def _require_any(weights: dict[str, float]) -> dict[str, float]:
    if not any(weights.values()):
        raise ValueError("every value is 0: there is nothing to learn; set one of them above 0")
    return weights


LossWeights = Annotated[
    dict[Annotated[str, AfterValidator(LOSSES.require)], NonNegative], AfterValidator(_require_any)
]
SourceShares = Annotated[dict[SourceKey, Fraction], AfterValidator(_require_any)]


class Weights(Section):
    """Numbers of which at least one is above 0."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_any(dict(self))
        return self


class Objective(Weights):
    """Weights of the two tasks in the loss of a stage; 0 omits a task."""

    segmentation: NonNegative
    classification: NonNegative


class LearningRates(Weights):
    """Peak learning rates; 0 freezes a part: weights and batch-norm statistics."""

    encoder: NonNegative
    decoder: NonNegative
    head: NonNegative


class Stage(Section):
    """A training stage."""

    starts_from: Name | None
    """Earlier stage whose best weights this one starts from; null: from `training.start_from` or `model`."""
    epochs: Count
    """Most epochs."""
    iterations_per_epoch: CountOrZero | None
    """Overrides `training.iterations_per_epoch`; None: as there."""
    learning_rates: LearningRates
    frozen_statistics: bool
    """Whether batch norms keep, and normalise with, the statistics of `starts_from`, if set."""
    objective: Objective
    sources: SourceShares
    """Share of each source in the batches; that of an absent source goes to the others in proportion."""
    monitor: str
    """Validation metrics in which the latest epoch must not be significantly worse, such as `dice+auc`;
    `last`: none."""
    patience: CountOrZero
    """Epochs without a higher score before early stopping; 0: none."""
    min_delta: NonNegative
    """Smallest rise of the score that counts as higher."""

    @property
    def monitors(self) -> tuple[str, ...]:
        """The monitored metrics; none where the last epoch is kept in any case."""
        return () if self.monitor == LAST_EPOCH else tuple(self.monitor.split("+"))

    @property
    def trained_tasks(self) -> frozenset[str]:
        """The tasks that are in the loss and whose head is trained."""
        return frozenset(
            task
            for task, part in PART_OF_TASK.items()
            if getattr(self.objective, task) and getattr(self.learning_rates, part)
        )


class Optimizer(Section):
    """torch.optim's Adam, AdamW or SGD."""

    name: Literal["adam", "adamw", "sgd"]
    weight_decay: NonNegative
    """Weight decay of convolutions and linear layers; norms and biases have none."""
    momentum: Fraction
    """Momentum of SGD; Adam's first moment decay."""


class Scheduler(Section):
    """Schedule of the learning rates over the iterations of a stage."""

    name: Literal["constant", "cosine", "poly", "step"]
    warmup_fraction: Fraction
    """Share of the iterations of linear warm-up from 0."""
    final_fraction: Fraction
    """Final rate of cosine and poly, as a share of the peak; the factor of step."""


class Augmentation(Section):
    """Random augmentation of image and mask, on the training device."""

    flip: Fraction
    """Probability of a left-right mirror."""
    vertical_flip: Fraction
    """Probability of a top-down mirror."""
    rotation: NonNegative
    """Largest rotation, degrees."""
    scale: Annotated[float, Field(ge=0, lt=1)]
    """Largest relative change of size."""
    translation: Annotated[float, Field(ge=0, lt=1)]
    """Largest shift, as a share of the image side."""
    elastic: Annotated[float, Field(ge=0, le=0.1)]
    """Standard deviation of a smooth displacement, as a share of the image side."""
    intensity: NonNegative
    """Largest change of contrast (factor) and brightness (standard deviations), of each channel by itself."""
    bias: Annotated[float, Field(ge=0, lt=1)]
    """Largest relative bias field, as by a coil's sensitivity."""
    noise: NonNegative
    """Standard deviation of added Gaussian noise, in z-score units."""


class Training(Section):
    """Settings of all stages."""

    start_from: Path | None
    """Initial weights of the first stage: a best_model.pth of another run with the same `model`."""
    batch_size: Count
    """Batch size, slices."""
    iterations_per_epoch: CountOrZero
    """Batches per epoch; 0: one pass over the training slices, see `preprocessing.healthy_ratio`."""
    minutes: Annotated[float, Field(gt=0)] | None
    """Minutes that a whole run takes: epochs and batches of the stages are planned for it, in the proportions
    that they have without it. null: they stay as they are."""
    optimizer: Optimizer
    scheduler: Scheduler
    mask_loss: LossWeights
    """Weight of each segmentation loss: `bce`, `ce` (softmax), `dice`, `iou`, `focal`, `tversky`, or one that
    another package offers by an entry point `slicewise.losses`."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)]
    """Label smoothing (Szegedy 2016): with 0.1 the targets are 0.05 and 0.95."""
    clip_norm: NonNegative
    """Largest norm of the gradient; 0: no clipping."""
    accumulate: Count
    """Batches of gradient accumulation."""
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    """Precision of the computation; weights stay fp32. `auto`: bf16 where it is faster, else fp32."""
    channels_last: bool
    """Memory format channels-last, which is faster on most machines."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the exponential moving average of the weights, which is evaluated and saved; 0: none."""
    precise_bn: CountOrZero
    """Batches, without augmentation, of precise batch norm after each epoch; 0: none."""
    modality_dropout: Fraction
    """Probability that a training image keeps only a random number of its modalities, at least one."""
    augmentation: Augmentation
    sample_predictions: CountOrZero
    """Validation slices plotted to `samples/` after each epoch."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: batch normalisation needs more than one image")
        return self
