"""What the tasks of a model have in common, through which model, training and prediction use them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from slicewise.config.schema import Training
from slicewise.config.schema.model import SegmentationSettings, TaskName

Floats = NDArray[np.float64]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Takes logits and targets, returns a scalar; see `tasks.losses`"""
LossFactory: TypeAlias = Callable[[SegmentationSettings], Loss]
Contributions = dict[str, list[float]]
"""Of each metric the contribution of every group of patients, in a fixed order"""


class Targets(Protocol):
    """What a batch of B slices should give: a `data.loading.dataset.Batch` whose masks are encoded."""

    @property
    def images(self) -> Tensor: ...
    @property
    def masks(self) -> Tensor: ...
    @property
    def has_mask(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...


class SliceTable(NamedTuple):
    """What the metrics need to know of S slices, in the order of their data set."""

    sources: NDArray[np.str_]
    """[S] names"""
    patients: NDArray[np.int64]
    """[S] numbers, unique over sources, in order of appearance"""
    groups: NDArray[np.int64]
    """[S] likewise: patients, or families of pictures, that the split keeps together"""
    has_mask: NDArray[np.bool_]
    included: NDArray[np.bool_]
    """[S], False where the model is not applied: such a slice has an empty prediction and no rank"""
    labels: Floats
    """[S] number of the class"""


@dataclass(frozen=True)
class Task(ABC):
    """One task: a head of the model with its target, loss, decoding and metrics.

    Logits are [B, num_channels, row, col] or [B, num_channels].
    """

    settings: Any
    """Its section of the configuration"""
    name: ClassVar[TaskName]
    head: ClassVar[str]
    """`mask` or `class`, as in the model's attribute `mask_head` and in the column `val_mask_loss`"""

    @property
    def classes(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.settings.classes
        return names

    @property
    def num_channels(self) -> int:
        """Channels of the head."""
        return int(self.settings.num_channels)

    @property
    def is_exclusive(self) -> bool:
        """Whether the classes exclude each other (softmax); channel 0 is then background or absence."""
        return bool(self.settings.activation == "softmax")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each class but background or absence: logits with that many channels."""
        return logits.softmax(1)[:, 1:] if self.is_exclusive else logits.sigmoid()

    @abstractmethod
    def loss(self, logits: Tensor, targets: Targets, training: Training) -> Tensor:
        """Return the loss of a batch, a scalar in fp32; 0 where no slice has a target."""

    def distillation_loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Return the cross-entropy with the probabilities of another model's logits (Hinton 2015)."""
        logits, teacher = logits.float(), teacher.float()
        if self.is_exclusive:
            return cross_entropy(logits, teacher.softmax(1))
        return binary_cross_entropy_with_logits(logits, teacher.sigmoid())

    @abstractmethod
    def has_target(self, slices: SliceTable) -> NDArray[np.bool_]:
        """Return [S], True for slices that the loss counts."""

    @abstractmethod
    def score(self, logits: Tensor, targets: Targets) -> Tensor:
        """Return [B, column]: what `metrics` needs of each slice; NaN or infinite where logits are."""

    @abstractmethod
    def metrics(self, slices: SliceTable, scores: Floats) -> dict[str, float]:
        """Return the validation metrics from scores [S, column]; undefined ones are left out."""

    @abstractmethod
    def contributions(self, slices: SliceTable, scores: Floats, monitors: Collection[str]) -> Contributions:
        """Return the monitored metrics of this task patient by patient, for model selection.

        A value is the jackknife's pseudo-value (Tukey 1958), n times the metric minus (n - 1) times the
        metric without the group. A metric that is undefined as a whole is left out.
        """

    @abstractmethod
    def columns(self, sources: Sequence[str]) -> Mapping[str, str]:
        """Return the names of all metrics, as columns of history.csv, with the labels of their curves."""
