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
from slicewise.data.batches import SOURCES, Batch, SliceDataset
from slicewise.data.loader import in_order, read_batches
from slicewise.models.multitask import MultitaskNet
from slicewise.training.tasks import Answers, TaskNet, Tasks, compute_losses

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SliceScores:
    """One row per slice of a data set, in its order."""

    overlap: Floats
    """Pixels that are tumour in mask and prediction"""
    extent: Floats
    """Tumour pixels of the mask plus those of the prediction; NaN where the network gave no numbers"""
    class_logits: Floats
    losses: Floats
    """[slice, 2]: mask and classification loss of the slice's batch"""

    @property
    def is_finite(self) -> bool:
        """Whether all answers and losses are numbers."""
        return all(np.isfinite(part).all() for part in (self.extent, self.class_logits, self.losses))


class Validation(NamedTuple):
    """The metrics of a network, and what they are made of."""

    metrics: dict[str, float]
    scores: SliceScores


def validate(
    fabric: Fabric, net: MultitaskNet, dataset: SliceDataset, stage: Stage, training: Training
) -> Validation:
    """Return the metrics of the stage's tasks; a figure that is undefined here is left out.

    `dice` is the mean over patients of the Dice of all their slices together at probability 0.5 (1 where mask
    and prediction are both empty); `auc` is the area under the ROC curve of the slices, see `slice_auc`.
    `val_loss` weighs its two parts as training does.

    Raises:
        FloatingPointError: an answer of the network, or a loss, is not a number.
    """
    tasks = Tasks.validated(stage)
    scores = score_slices(fabric, TaskNet(net, tasks), dataset, stage, training)
    if not scores.is_finite:
        raise FloatingPointError("the network does not answer with numbers")
    mask, classification = mean_losses(dataset, scores)
    objective = stage.objective
    metrics = {"val_loss": objective.segmentation * mask + objective.classification * classification}
    if tasks.segment:
        metrics |= {"val_mask_loss": mask, "dice": dice_per_patient(dataset, scores)}
    if tasks.classify:
        metrics |= {"val_class_loss": classification, **slice_auc(dataset, scores.class_logits)}
    return Validation(metrics, scores)


def monitored(metrics: dict[str, float], monitor: Monitor) -> float:
    """Return the figure that chooses the best epoch; one that is undefined counts as chance, 0.5.

    Where the last epoch is kept whatever it is worth, this is the mean of what there is of Dice and AUC, to
    be read and not to choose by.
    """
    if monitor == "last":
        found = [metrics[name] for name in ("dice", "auc") if name in metrics]
        return float(np.mean(found)) if found else 0.5
    return float(np.mean([metrics.get(name, 0.5) for name in monitor.split("+")]))


def is_measured(metrics: dict[str, float], monitor: Monitor) -> bool:
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


def dice_per_patient(dataset: SliceDataset, scores: SliceScores) -> float:
    """Return the mean Dice of the patients that have masks (0 where none has)."""
    dice = [*patient_dice(dataset, scores).values()]
    return float(np.mean(dice)) if dice else 0.0


def patient_dice(dataset: SliceDataset, scores: SliceScores) -> dict[tuple[str, str], float]:
    """Return the Dice of each patient that has masks, by source and name."""
    patients: dict[tuple[str, str], Floats] = {}
    for number, case in enumerate(dataset.cases):
        if case.has_mask:
            rows = dataset.case_of == number
            sums = np.array([scores.overlap[rows].sum(), scores.extent[rows].sum()])
            name = (case.key.source, case.key.patient)
            patients[name] = patients.get(name, np.zeros(2)) + sums
    return {
        name: float(2 * overlap / extent) if extent else 1.0 for name, (overlap, extent) in patients.items()
    }


def slice_auc(dataset: SliceDataset, class_logits: Floats) -> dict[str, float]:
    """Return the area per source that has both classes, and as `auc` their mean, weighted by slices.

    A tumour is compared with the healthy slices of its own source alone: that all pictures score higher than
    all volumes is no fault, since the thresholds are chosen per source.
    """
    areas = [source_area(dataset, class_logits, source) for source in range(len(SOURCES))]
    named = zip(SOURCES, areas, strict=True)
    return average_area(areas) | {f"auc_{name}": area.value for name, area in named if area is not None}


class Area(NamedTuple):
    """The area under the ROC curve of so many slices."""

    value: float
    num_slices: int


def source_area(
    dataset: SliceDataset, class_logits: Floats, source: int, among: NDArray[np.bool_] | None = None
) -> Area | None:
    """Return the area of one source, of the slices `among` which to look; None without both classes."""
    rows = (dataset.sources == source) & dataset.seen
    rows &= True if among is None else among
    if len(np.unique(dataset.labels[rows])) < 2:
        return None
    return Area(float(roc_auc_score(dataset.labels[rows], class_logits[rows])), int(np.count_nonzero(rows)))


def average_area(areas: Sequence[Area | None]) -> dict[str, float]:
    """Return as `auc` the mean of the areas that are defined, weighted by slices; nothing where none is."""
    found = [area for area in areas if area is not None]
    if not found:
        return {}
    values, sizes = zip(*found, strict=True)
    return {"auc": float(np.average(values, weights=sizes))}


@torch.no_grad()
def score_slices(
    fabric: Fabric, net: TaskNet, dataset: SliceDataset, stage: Stage, training: Training
) -> SliceScores:
    """Run the network over every slice of `dataset`; see `evaluation` for those that nobody asks about."""
    net.eval()
    rows = [
        _score(batch, answers, stage, training) for batch, answers in _answers(fabric, net, dataset, training)
    ]
    table = torch.cat(rows).cpu().double().numpy()
    overlap, found, reference, logits = table[:, :4].T
    asked = dataset.seen
    return SliceScores(overlap * asked, reference + found * asked, logits, table[:, 4:])


def _answers(
    fabric: Fabric, net: TaskNet, dataset: SliceDataset, training: Training
) -> Iterator[tuple[Batch, Answers]]:
    for batch in read_batches(dataset, in_order(dataset, training.batch_size)):
        on_device = batch.to(fabric.device, training.channels_last)
        with fabric.autocast():
            answers = net(on_device.images, on_device.presence)
        yield on_device, answers


def _score(batch: Batch, answers: Answers, stage: Stage, training: Training) -> Tensor:
    """Return [batch, 6]: common, predicted and true pixels, class logit and the batch's two losses."""
    nothing = torch.zeros_like(batch.labels)
    overlap, predicted, reference, logits = nothing, nothing, nothing, nothing
    if answers.mask_logits is not None:
        brain = (batch.images != 0).any(1, keepdim=True)
        found = ((answers.mask_logits > 0) & brain).float()
        overlap, reference = (found * batch.masks).sum((1, 2, 3)), batch.masks.sum((1, 2, 3))
        answered = answers.mask_logits.flatten(1).isfinite().all(1)
        predicted = found.sum((1, 2, 3)).where(answered, torch.nan)
    if answers.class_logits is not None:
        logits = answers.class_logits.float()
    _, *parts = compute_losses(answers, batch, stage.objective, training)
    return torch.stack(
        [overlap, predicted, reference, logits, *(loss.expand(len(batch)) for loss in parts)], 1
    )
