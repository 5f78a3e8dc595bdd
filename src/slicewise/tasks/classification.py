"""Classification: the class of a slice, measured by the area under the ROC curve."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from slicewise.config.schema import Training
from slicewise.config.schema.tasks import ClassificationSettings
from slicewise.tasks.base import Contributions, Floats, SliceTable, Targets


class SourceAUC(NamedTuple):
    """An area under the ROC curve, and of how many slices."""

    value: float
    num_slices: int


@dataclass(frozen=True)
class Classification:
    """C classes of a slice, of which the first is the absence of the others; see `Task` for the rest."""

    settings: ClassificationSettings
    name: Final = "classification"
    head: Final = "class"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.settings.classes

    @property
    def num_channels(self) -> int:
        return self.settings.num_channels

    @property
    def is_exclusive(self) -> bool:
        """Whether the classes exclude each other (softmax)."""
        return self.settings.activation == "softmax"

    def loss(self, logits: Tensor, targets: Targets, training: Training) -> Tensor:
        """Return the cross-entropy, binary with sigmoid, with label smoothing (Szegedy 2016)."""
        smoothing = training.label_smoothing
        if self.is_exclusive:
            return cross_entropy(logits.float(), targets.labels.long(), label_smoothing=smoothing)
        numbers = torch.arange(1, len(self.classes), device=logits.device)
        one_hot = (targets.labels[:, None] == numbers).to(targets.labels.dtype)
        return binary_cross_entropy_with_logits(logits.float(), one_hot * (1 - smoothing) + 0.5 * smoothing)

    def has_target(self, slices: SliceTable) -> NDArray[np.bool_]:
        return np.ones_like(slices.has_mask)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return [B, C - 1], without the absence."""
        return logits.softmax(1)[:, 1:] if self.is_exclusive else logits.sigmoid()

    def score(self, logits: Tensor, targets: Targets) -> Tensor:  # noqa: ARG002
        return logits.float()

    def metrics(self, slices: SliceTable, scores: Floats) -> dict[str, float]:
        """Return the area under the ROC curve per source that has it, and as `auc` their mean over slices.

        A slice is compared with those of its own source alone: that all pictures score higher than all
        volumes is no error, since the thresholds are chosen per source.
        """
        aucs = {f"auc_{name}": self._source_auc(slices, scores, name) for name in _names(slices)}
        defined = {name: auc for name, auc in aucs.items() if auc is not None}
        if not defined:
            return {}
        values, sizes = zip(*defined.values(), strict=True)
        mean = float(np.average(values, weights=sizes))
        return {"auc": mean, **{name: auc.value for name, auc in defined.items()}}

    def contributions(self, slices: SliceTable, scores: Floats, monitors: Collection[str]) -> Contributions:
        """Return the pseudo-values of the area of each source; undefined without a group it counts as 0.5."""
        values: Contributions = {}
        for name in _names(slices) if "auc" in monitors else ():
            whole = self._source_auc(slices, scores, name)
            if whole is None:
                continue
            groups = np.unique(slices.groups[slices.sources == name])
            without = [self._source_auc(slices, scores, name, slices.groups != group) for group in groups]
            others = (0.5 if auc is None else auc.value for auc in without)
            values[f"auc_{name}"] = [
                len(groups) * whole.value - (len(groups) - 1) * value for value in others
            ]
        return values

    def columns(self, sources: Sequence[str]) -> dict[str, str]:
        return {"auc": "AUC, mean over sources", **{f"auc_{name}": f"AUC, {name}" for name in sources}}

    def _source_auc(
        self, slices: SliceTable, scores: Floats, source: str, among: NDArray[np.bool_] | None = None
    ) -> SourceAUC | None:
        """Return the area of one source, over the slices `among` if given; None with a single class.

        With several classes it is the mean of those of each against all others.
        """
        from sklearn.metrics import roc_auc_score  # takes a second, and prediction does without

        rows = (slices.sources == source) & slices.included
        rows &= True if among is None else among
        labels, logits = slices.labels[rows], scores[rows]
        present = [
            number for number in range(1, len(self.classes)) if 0 < (labels == number).sum() < len(labels)
        ]
        if not present:
            return None
        if self.is_exclusive:  # log-odds of each class against all others
            others = [
                np.logaddexp.reduce(np.delete(logits, number, 1), axis=1) for number in range(logits.shape[1])
            ]
            logits = (logits - np.stack(others, 1))[:, 1:]
        areas = [roc_auc_score(labels == number, logits[:, number - 1]) for number in present]
        return SourceAUC(float(np.mean(areas)), int(np.count_nonzero(rows)))


def _names(slices: SliceTable) -> list[str]:
    return list(dict.fromkeys(slices.sources.tolist()))
