"""Validation: Dice and AUC of a model on the validation patients."""

from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from slicewise.config.schema import Stage, Training
from slicewise.data.loading.dataset import Batch, SliceDataset
from slicewise.data.loading.loader import load_batches, sequential_batches
from slicewise.models.multitask import MultitaskModel, MultitaskOutput
from slicewise.training.losses import compute_losses
from slicewise.training.objective import ActiveTasks

Floats = NDArray[np.float64]


class SliceScores(NamedTuple):
    """One row per slice of a data set, in its order."""

    intersection: Floats
    """Pixels that are tumour in mask and prediction"""
    denominator: Floats
    """Tumour pixels of the mask plus those of the prediction; NaN where logits are not finite"""
    class_logits: Floats
    losses: Floats
    """[slice, 2]: mask and classification loss of the slice's batch"""


class Validation(NamedTuple):
    """The metrics of a model, and the scores that they are computed from."""

    metrics: dict[str, float]
    scores: SliceScores


class SourceAUC(NamedTuple):
    """An area under the ROC curve, and of how many slices."""

    value: float
    num_slices: int


def validate(
    fabric: Fabric, model: MultitaskModel, dataset: SliceDataset, stage: Stage, training: Training
) -> Validation:
    """Return the metrics of the tasks that a stage trains or monitors; undefined ones are left out.

    `dice` is the mean over patients of the Dice of all their slices together at probability 0.5 (1 where mask
    and prediction are both empty); `auc` is the area under the ROC curve of the slices, see `slice_auc`.
    `val_loss` weighs its two parts as training does.

    Raises:
        FloatingPointError: a logit or a loss is NaN or infinite.
    """
    tasks = ActiveTasks.validated(stage)
    scores = _score_slices(fabric, model, dataset, stage, training)
    if not all(np.isfinite(part).all() for part in (scores.denominator, scores.class_logits, scores.losses)):
        raise FloatingPointError("the logits or losses of the validation are NaN or infinite")
    # Pictures come last, in batches without mask loss; to count them as 0 would make the loss look smaller.
    masked = dataset.has_mask
    mask = float(scores.losses[masked, 0].mean()) if masked.any() else 0.0
    label = float(scores.losses[:, 1].mean())
    objective = stage.objective
    metrics = {"val_loss": objective.segmentation * mask + objective.classification * label}
    if tasks.segment:
        metrics |= {"val_mask_loss": mask, "dice": mean_patient_dice(dataset, scores)}
    if tasks.classify:
        metrics |= {"val_class_loss": label, **slice_auc(dataset, scores.class_logits)}
    return Validation(metrics, scores)


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
    all volumes is no error, since the thresholds are chosen per source.
    """
    aucs = {
        f"auc_{name}": auc
        for source, name in enumerate(dataset.source_names)
        if (auc := source_auc(dataset, class_logits, source)) is not None
    }
    if not aucs:
        return {}
    values, sizes = zip(*aucs.values(), strict=True)
    mean = float(np.average(values, weights=sizes))
    return {"auc": mean, **{name: auc.value for name, auc in aucs.items()}}


def source_auc(
    dataset: SliceDataset, class_logits: Floats, source: int, among: NDArray[np.bool_] | None = None
) -> SourceAUC | None:
    """Return the area of one source, over the slices `among` if given; None without both classes."""
    rows = (dataset.sources == source) & dataset.included
    rows &= True if among is None else among
    if len(np.unique(dataset.labels[rows])) < 2:
        return None
    return SourceAUC(
        float(roc_auc_score(dataset.labels[rows], class_logits[rows])), int(np.count_nonzero(rows))
    )


@torch.no_grad()
def _score_slices(
    fabric: Fabric, model: MultitaskModel, dataset: SliceDataset, stage: Stage, training: Training
) -> SliceScores:
    """Run the model over every slice; excluded slices get an empty mask, as in the evaluation."""
    model.eval()
    tasks, rows = ActiveTasks.validated(stage), []
    for batch in load_batches(dataset, sequential_batches(dataset, training.batch_size)):
        on_device = batch.to(fabric.device, training.channels_last)
        with fabric.autocast():
            outputs = model(on_device.images, on_device.presence, **tasks._asdict())
        rows.append(_score(on_device, outputs, stage, training))
    table = torch.cat(rows).cpu().double().numpy()
    intersection, predicted, reference, logits = table[:, :4].T
    included = dataset.included
    return SliceScores(intersection * included, reference + predicted * included, logits, table[:, 4:])


def _score(batch: Batch, outputs: MultitaskOutput, stage: Stage, training: Training) -> Tensor:
    """Return [batch, 6]: common, predicted and true pixels, class logit and the batch's two losses."""
    zeros = torch.zeros_like(batch.labels)
    intersection, predicted, reference, logits = zeros, zeros, zeros, zeros
    if outputs.mask_logits is not None:
        brain = (batch.images != 0).any(1, keepdim=True)
        masks = ((outputs.mask_logits > 0) & brain).float()
        intersection, reference = (masks * batch.masks).sum((1, 2, 3)), batch.masks.sum((1, 2, 3))
        finite = outputs.mask_logits.flatten(1).isfinite().all(1)
        predicted = masks.sum((1, 2, 3)).where(finite, torch.nan)
    if outputs.class_logits is not None:
        logits = outputs.class_logits.float()
    _, *parts = compute_losses(outputs, batch, stage.objective, training)
    return torch.stack(
        [intersection, predicted, reference, logits, *(loss.expand(len(batch)) for loss in parts)], 1
    )
