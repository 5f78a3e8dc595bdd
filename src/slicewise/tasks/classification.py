"""Classification: the class of a slice, measured by the area under the ROC curve."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from slicewise.config.schema import Training
from slicewise.config.schema.model import ClassificationSettings
from slicewise.tasks.base import Contributions, Floats, SliceTable, Targets, Task


@dataclass(frozen=True)
class Classification(Task):
    """C classes of a slice, of which the first is the absence of the others."""

    settings: ClassificationSettings
    name: ClassVar = "classification"
    head: ClassVar = "class"

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
        aucs = {name: self._auc(slices.labels[own], scores[own]) for name, own in rows.items()}
        defined = {name: auc for name, auc in aucs.items() if auc is not None}
        if not defined:
            return {}
        mean = float(np.average([*defined.values()], weights=[rows[name].sum() for name in defined]))
        return {"auc": mean, **{f"auc_{name}": auc for name, auc in defined.items()}}

    def contributions(self, slices: SliceTable, scores: Floats, monitors: Collection[str]) -> Contributions:
        """Return the pseudo-values of the area of each source; undefined without a group it counts as 0.5."""
        values: Contributions = {}
        for name in _names(slices) if "auc" in monitors else ():
            own = slices.sources == name
            rows = own & slices.included
            whole = self._auc(slices.labels[rows], scores[rows])
            if whole is None:
                continue
            groups = np.unique(slices.groups[own])
            others = [rows & (slices.groups != group) for group in groups]
            aucs = [self._auc(slices.labels[other], scores[other]) for other in others]
            values[f"auc_{name}"] = [
                len(groups) * whole - (len(groups) - 1) * (0.5 if auc is None else auc) for auc in aucs
            ]
        return values

    def columns(self, sources: Sequence[str]) -> dict[str, str]:
        return {"auc": "AUC, mean over sources", **{f"auc_{name}": f"AUC, {name}" for name in sources}}

    def _auc(self, labels: Floats, logits: Floats) -> float | None:
        """Return the area under the ROC curve of the slices; None with a single class.

        With several classes it is the mean of those of each against all others.
        """
        from sklearn.metrics import roc_auc_score  # takes a second, and prediction does without

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
        return float(np.mean([roc_auc_score(labels == number, logits[:, number - 1]) for number in present]))


def _names(slices: SliceTable) -> list[str]:
    return list(dict.fromkeys(slices.sources.tolist()))
