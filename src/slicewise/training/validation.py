"""How good the network is on the validation side, patient by patient."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from slicewise.config.schema import Stage, Training
from slicewise.config.schema.training import Monitor
from slicewise.data.loading.dataset import SOURCES, Batch, SliceDataset
from slicewise.data.loading.loader import load_batches, sequential_batches
from slicewise.models.multitask import MultitaskModel
from slicewise.training.objective import ActiveTasks, TaskModel, TaskOutput, compute_losses

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SliceScores:
    """One row per slice of a data set, in its order."""

    intersection: Floats
    """Pixels that are tumour in mask and prediction"""
    denominator: Floats
    """Tumour pixels of the mask plus those of the prediction; NaN where the network gave no numbers"""
    class_logits: Floats
    losses: Floats
    """[slice, 2]: mask and classification loss of the slice's batch"""

    @property
    def is_finite(self) -> bool:
        """Whether all answers and losses are numbers."""
        return all(np.isfinite(part).all() for part in (self.denominator, self.class_logits, self.losses))


class Validation(NamedTuple):
    """The metrics of a network, and what they are made of."""

    metrics: dict[str, float]
    scores: SliceScores


def validate(
    fabric: Fabric, model: MultitaskModel, dataset: SliceDataset, stage: Stage, training: Training
) -> Validation:
    """Return the metrics of the stage's tasks; a figure that is undefined here is left out.

    `dice` is the mean over patients of the Dice of all their slices together at probability 0.5 (1 where mask
    and prediction are both empty); `auc` is the area under the ROC curve of the slices, see `slice_auc`.
    `val_loss` weighs its two parts as training does.

    Raises:
        FloatingPointError: an answer of the network, or a loss, is not a number.
    """
    tasks = ActiveTasks.validated(stage)
    scores = score_slices(fabric, TaskModel(model, tasks), dataset, stage, training)
    if not scores.is_finite:
        raise FloatingPointError("the network does not answer with numbers")
    mask, classification = mean_losses(dataset, scores)
    objective = stage.objective
    metrics = {"val_loss": objective.segmentation * mask + objective.classification * classification}
    if tasks.segment:
        metrics |= {"val_mask_loss": mask, "dice": mean_patient_dice(dataset, scores)}
    if tasks.classify:
        metrics |= {"val_class_loss": classification, **slice_auc(dataset, scores.class_logits)}
    return Validation(metrics, scores)


def monitor_score(metrics: dict[str, float], monitor: Monitor) -> float:
    """Return the figure that chooses the best epoch; one that is undefined counts as chance, 0.5.

    Where the last epoch is kept whatever it is worth, this is the mean of what there is of Dice and AUC, to
    be read and not to choose by.
    """
    if monitor == "last":
        found = [metrics[name] for name in ("dice", "auc") if name in metrics]
        return float(np.mean(found)) if found else 0.5
    return float(np.mean([metrics.get(name, 0.5) for name in monitor.split("+")]))


def is_score_defined(metrics: dict[str, float], monitor: Monitor) -> bool:
    """Whether every figure that the choice of the epoch rests on is defined."""
    return all(name in metrics for name in monitor.split("+"))


def mean_losses(dataset: SliceDataset, scores: SliceScores) -> tuple[float, float]:
    """Return the mask loss over the slices with masks (0 where none has) and the class loss over all.

    A batch of pictures has no mask loss. In training every batch holds its share of volumes; here the
    pictures come last, in batches of their own, and to count them as 0 would make the loss look smaller.
    """
    mask, classification = scores.losses.T
    masked = np.array([case.has_mask for case in dataset.cases])[dataset.case_of]
    return float(mask[masked].mean()) if masked.any() else 0.0, float(classification.mean())


def mean_patient_dice(dataset: SliceDataset, scores: SliceScores) -> float:
    """Return the mean Dice of the patients that have masks (0 where none has)."""
    dice = [*dice_by_patient(dataset, scores).values()]
    return float(np.mean(dice)) if dice else 0.0


def dice_by_patient(dataset: SliceDataset, scores: SliceScores) -> dict[tuple[str, str], float]:
    """Return the Dice of each patient that has masks, by source and name."""
    patients: dict[tuple[str, str], Floats] = {}
    for number, case in enumerate(dataset.cases):
        if case.has_mask:
            rows = dataset.case_of == number
            sums = np.array([scores.intersection[rows].sum(), scores.denominator[rows].sum()])
            name = (case.key.source, case.key.patient)
            patients[name] = patients.get(name, np.zeros(2)) + sums
    return {
        name: float(2 * intersection / denominator) if denominator else 1.0
        for name, (intersection, denominator) in patients.items()
    }


def slice_auc(dataset: SliceDataset, class_logits: Floats) -> dict[str, float]:
    """Return the area per source that has both classes, and as `auc` their mean, weighted by slices.

    A tumour is compared with the healthy slices of its own source alone: that all pictures score higher than
    all volumes is no fault, since the thresholds are chosen per source.
    """
    aucs = [source_auc(dataset, class_logits, source) for source in range(len(SOURCES))]
    named = zip(SOURCES, aucs, strict=True)
    return mean_auc(aucs) | {f"auc_{name}": auc.value for name, auc in named if auc is not None}


class SourceAUC(NamedTuple):
    """The area under the ROC curve of so many slices."""

    value: float
    num_slices: int


def source_auc(
    dataset: SliceDataset, class_logits: Floats, source: int, among: NDArray[np.bool_] | None = None
) -> SourceAUC | None:
    """Return the area of one source, of the slices `among` which to look; None without both classes."""
    rows = (dataset.sources == source) & dataset.included
    rows &= True if among is None else among
    if len(np.unique(dataset.labels[rows])) < 2:
        return None
    return SourceAUC(
        float(roc_auc_score(dataset.labels[rows], class_logits[rows])), int(np.count_nonzero(rows))
    )


def mean_auc(aucs: Sequence[SourceAUC | None]) -> dict[str, float]:
    """Return as `auc` the mean of the areas that are defined, weighted by slices; nothing where none is."""
    found = [auc for auc in aucs if auc is not None]
    if not found:
        return {}
    values, sizes = zip(*found, strict=True)
    return {"auc": float(np.average(values, weights=sizes))}


@torch.no_grad()
def score_slices(
    fabric: Fabric, model: TaskModel, dataset: SliceDataset, stage: Stage, training: Training
) -> SliceScores:
    """Run the network over every slice of `dataset`; see `evaluation` for those that nobody asks about."""
    model.eval()
    rows = [
        _score(batch, outputs, stage, training)
        for batch, outputs in _predict_batches(fabric, model, dataset, training)
    ]
    table = torch.cat(rows).cpu().double().numpy()
    intersection, found, reference, logits = table[:, :4].T
    included = dataset.included
    return SliceScores(intersection * included, reference + found * included, logits, table[:, 4:])


def _predict_batches(
    fabric: Fabric, model: TaskModel, dataset: SliceDataset, training: Training
) -> Iterator[tuple[Batch, TaskOutput]]:
    for batch in load_batches(dataset, sequential_batches(dataset, training.batch_size)):
        on_device = batch.to(fabric.device, training.channels_last)
        with fabric.autocast():
            outputs = model(on_device.images, on_device.presence)
        yield on_device, outputs


def _score(batch: Batch, outputs: TaskOutput, stage: Stage, training: Training) -> Tensor:
    """Return [batch, 6]: common, predicted and true pixels, class logit and the batch's two losses."""
    zeros = torch.zeros_like(batch.labels)
    intersection, predicted, reference, logits = zeros, zeros, zeros, zeros
    if outputs.mask_logits is not None:
        brain = (batch.images != 0).any(1, keepdim=True)
        found = ((outputs.mask_logits > 0) & brain).float()
        intersection, reference = (found * batch.masks).sum((1, 2, 3)), batch.masks.sum((1, 2, 3))
        finite = outputs.mask_logits.flatten(1).isfinite().all(1)
        predicted = found.sum((1, 2, 3)).where(finite, torch.nan)
    if outputs.class_logits is not None:
        logits = outputs.class_logits.float()
    _, *parts = compute_losses(outputs, batch, stage.objective, training)
    return torch.stack(
        [intersection, predicted, reference, logits, *(loss.expand(len(batch)) for loss in parts)], 1
    )
