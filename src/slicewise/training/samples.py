"""Predictions for a few validation slices, as a picture after each epoch."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from slicewise.core.files import atomic_write
from slicewise.data.loading.dataset import Batch, SliceDataset
from slicewise.data.loading.sampler import Indices
from slicewise.imaging.io.image2d import to_png
from slicewise.models.multitask import Logits
from slicewise.plots import overlay
from slicewise.plots.sample_predictions import display_slot
from slicewise.tasks.build import find_segmentation
from slicewise.tasks.segmentation import Segmentation
from slicewise.training.learner import Learner
from slicewise.training.losses import Tasks, encode_targets

_TILE_SIZE: Final = 240


@torch.no_grad()
def draw_samples(path: Path, learner: Learner, dataset: SliceDataset, number: int) -> None:
    """Draw `number` slices of `dataset` to a PNG file, one row each: image, masks, predicted masks."""
    indices, tasks = choose_slices(dataset, number), learner.model.tasks
    batch = encode_targets(dataset.gather(indices), tasks)
    on_device = batch.to(learner.device, learner.config.training.channels_last)
    with learner.fabric.autocast():  # an untrained head says nothing
        logits = learner.best_model.eval()(on_device.images, on_device.presence, learner.trained_tasks.names)
    tiles: list[overlay.Rgb] = []
    captions: list[str] = []
    for place, index in enumerate(indices):
        row = _draw_row(batch, logits, find_segmentation(tasks), place)
        reference, prediction = _describe_class(batch, logits, tasks, place)
        tiles += row
        captions += [str(dataset.cases[dataset.case_of[index]].key), reference, prediction][: len(row)]
    with atomic_write(path) as stream:
        stream.write(to_png(overlay.tile(tiles, captions, columns=len(tiles) // len(indices))))


def choose_slices(dataset: SliceDataset, number: int) -> Indices:
    """Return tumour slices with a mask, evenly over the patients: the same ones after each epoch."""
    tumour = np.flatnonzero(dataset.has_mask & (dataset.labels > 0))
    if not len(tumour):
        tumour = np.arange(len(dataset))
    middles = (np.arange(number) + 0.5) * len(tumour) / number
    return np.unique(tumour[middles.astype(np.int64)])


def _describe_class(batch: Batch, logits: Logits, tasks: Tasks, place: int) -> tuple[str, str]:
    """Return the class of a slice and the predicted probabilities as captions."""
    task = tasks.get("classification")
    if task is None:
        return "reference", "prediction"
    reference, prediction = f"reference: {task.classes[int(batch.labels[place])]}", "prediction"
    if task.name in logits:
        values = task.probabilities(logits[task.name][place : place + 1])[0].tolist()
        shares = [f"{name} {value:.0%}" for name, value in zip(task.classes[1:], values, strict=True)]
        prediction = f"prediction: {', '.join(shares)}"
    return reference, prediction


def _draw_row(batch: Batch, logits: Logits, task: Segmentation | None, place: int) -> list[overlay.Rgb]:
    """Return the tiles of a slice, on FLAIR, where the whole tumour is bright, or another channel."""
    slot = display_slot(batch.presence[place])
    image = overlay.enlarge(overlay.grey(batch.images[place, slot].numpy()), _TILE_SIZE)
    plain = overlay.overlay(image, np.zeros_like(image))
    if task is None:
        return [plain, plain, plain]
    colours = task.colours
    truth = (overlay.TRUTH,) if len(colours) == 1 else colours
    predicted = (
        task.masks(logits[task.name][place : place + 1])[0] if task.name in logits else batch.masks[place, :0]
    )
    return [plain, _draw_masks(plain, batch.masks[place], truth), _draw_masks(plain, predicted, colours)]


def _draw_masks(image: overlay.Rgb, masks: Tensor, colours: tuple[overlay.Colour, ...]) -> overlay.Rgb:
    for mask, colour in zip(masks.cpu().numpy(), colours, strict=False):
        image = overlay.overlay(image, overlay.enlarge_mask(mask, _TILE_SIZE), colour)
    return image
