"""Classification: the class of a slice, measured by the area under the ROC curve and balanced accuracy."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from slicewise.config.schema import Training
from slicewise.config.schema.model import ClassificationSettings
from slicewise.domain.classes import Classes
from slicewise.tasks.base import Contributions, Floats, SliceTable, Targets, Task


@dataclass(frozen=True)
class Classification(Task):
    """C classes of a slice; of two the first is the absence of the other."""

    settings: ClassificationSettings
    name: ClassVar = "classification"
    head: ClassVar = "class"

    @property
    def class_set(self) -> Classes:
        """The classes as predictions and tables take them."""
        return Classes.of_slices(self.classes)

    def slice_probabilities(self, logits: Tensor) -> Tensor:
        """Return [B] of the second of two classes, or [B, C] of all of several classes."""
        return logits.softmax(1) if self.settings.has_several else self.probabilities(logits)[:, 0]

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

    def score(self, logits: Tensor, targets: Targets) -> Tensor:  # noqa: ARG002
        return logits.float()

    def metrics(self, slices: SliceTable, scores: Floats) -> dict[str, float]:
        """Return the area under the ROC curve per source that has it, and as `auc` their mean over slices.

        A slice is compared with those of its own source alone: that all pictures score higher than all
        volumes is no error, since the thresholds are chosen per source.
        """
        rows = {name: (slices.sources == name) & slices.included for name in _names(slices)}
        metrics: dict[str, float] = {}
        for monitor in self.settings.monitors:
            values = {name: self._measure(monitor, slices, scores, own) for name, own in rows.items()}
            defined = {name: value for name, value in values.items() if value is not None}
            if defined:
                weights = [rows[name].sum() for name in defined]
                metrics[monitor] = float(np.average([*defined.values()], weights=weights))
            metrics |= {f"{monitor}_{name}": value for name, value in defined.items()}
        return metrics

    def contributions(self, slices: SliceTable, scores: Floats, monitors: Collection[str]) -> Contributions:
        """Return the pseudo-values of each metric and source; undefined without a group it is a guess's."""
        values: Contributions = {}
        monitored = [monitor for monitor in self.settings.monitors if monitor in monitors]
        for monitor, name in product(monitored, _names(slices)):
            own = slices.sources == name
            rows = own & slices.included
            whole = self._measure(monitor, slices, scores, rows)
            if whole is None:
                continue
            groups = np.unique(slices.groups[own])
            others = [rows & (slices.groups != group) for group in groups]
            guess = 0.5 if monitor == "auc" else 1 / len(self.classes)
            parts = [self._measure(monitor, slices, scores, other) for other in others]
            values[f"{monitor}_{name}"] = [
                len(groups) * whole - (len(groups) - 1) * (guess if part is None else part) for part in parts
            ]
        return values

    def columns(self, sources: Sequence[str]) -> dict[str, str]:
        labels = {monitor: _LABELS[monitor] for monitor in self.settings.monitors}
        return {
            column: text
            for monitor, label in labels.items()
            for column, text in (
                (monitor, f"{label}, mean over sources"),
                *((f"{monitor}_{name}", f"{label}, {name}") for name in sources),
            )
        }

    def _measure(
        self, monitor: str, slices: SliceTable, scores: Floats, rows: NDArray[np.bool_]
    ) -> float | None:
        """Return a metric of some slices; None where it is undefined."""
        measure: Callable[[Floats, Floats], float | None] = (
            self._auc if monitor == "auc" else self._balanced_accuracy
        )
        return measure(slices.labels[rows], scores[rows])

    def _balanced_accuracy(self, labels: Floats, logits: Floats) -> float | None:
        """Return the share of slices that the largest logit classifies correctly, mean over the classes."""
        right = logits.argmax(axis=1) == labels
        return (
            float(np.mean([right[labels == each].mean() for each in np.unique(labels)]))
            if len(labels)
            else None
        )

    def _auc(self, labels: Floats, logits: Floats) -> float | None:
        """Return the area under the ROC curve of the slices; None with a single class.

        With several classes it is the mean of those of each against all others.
        """
        from sklearn.metrics import roc_auc_score  # takes a second, and prediction does without

        counted = range(0 if self.settings.has_several else 1, len(self.classes))
        present = [number for number in counted if 0 < (labels == number).sum() < len(labels)]
        if not present:
            return None
        if self.is_exclusive:  # log-odds of each class against all others
            others = [
                np.logaddexp.reduce(np.delete(logits, number, 1), axis=1) for number in range(logits.shape[1])
            ]
            logits = logits - np.stack(others, 1)
        first = len(self.classes) - logits.shape[1]
        areas = [roc_auc_score(labels == number, logits[:, number - first]) for number in present]
        return float(np.mean(areas))


_LABELS = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}


def _names(slices: SliceTable) -> list[str]:
    return list(dict.fromkeys(slices.sources.tolist()))
