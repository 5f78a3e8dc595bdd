"""Predictions for a few validation slices, as a picture after each epoch."""

from pathlib import Path
from typing import Final

import numpy as np
import torch

from slicewise.core.files import atomic_write
from slicewise.data.loading.dataset import Batch, SliceDataset
from slicewise.data.loading.sampler import Indices
from slicewise.domain.labels import modality_slot
from slicewise.imaging.io.image2d import to_png
from slicewise.models.multitask import MultitaskOutput
from slicewise.plots import overlay
from slicewise.training.learner import Learner
from slicewise.training.objective import ActiveTasks

_TILE_SIZE: Final = 240


@torch.no_grad()
def draw_samples(path: Path, learner: Learner, dataset: SliceDataset, number: int) -> None:
    """Draw `number` slices of `dataset` to a PNG file, one row each: image, mask, predicted mask."""
    indices = choose_slices(dataset, number)
    batch = dataset.gather(indices)
    on_device = batch.to(learner.device, learner.config.training.channels_last)
    classify = ActiveTasks.validated(learner.stage).classify  # an untrained head says nothing
    with learner.fabric.autocast():
        outputs = learner.best_model.eval()(on_device.images, on_device.presence, classify=classify)
    tiles: list[overlay.Rgb] = []
    captions: list[str] = []
    for place, index in enumerate(indices):
        tiles += _row(batch, outputs, place)
        truth, prediction = "truth: tumour" if batch.labels[place] else "truth: no tumour", "found"
        if outputs.class_logits is not None:
            prediction = f"found: tumour {float(outputs.class_logits[place].sigmoid()):.0%}"
        captions += [str(dataset.cases[dataset.case_of[index]].key), truth, prediction]
    with atomic_write(path) as stream:
        stream.write(to_png(overlay.tile(tiles, captions, columns=3)))


def choose_slices(dataset: SliceDataset, number: int) -> Indices:
    """Return tumour slices with a mask, evenly over the patients: the same ones after each epoch."""
    tumour = np.flatnonzero(dataset.has_mask & (dataset.labels > 0))
    if not len(tumour):
        tumour = np.arange(len(dataset))
    middles = (np.arange(number) + 0.5) * len(tumour) / number
    return np.unique(tumour[middles.astype(np.int64)])


def _row(batch: Batch, outputs: MultitaskOutput, place: int) -> list[overlay.Rgb]:
    """Return the tiles of a slice, on FLAIR (the whole tumour is bright) or else the first filled slot."""
    presence, slot = batch.presence[place], modality_slot("flair")
    if not presence[slot]:
        slot = int(presence.argmax())
    image = overlay.enlarge(overlay.grey(batch.images[place, slot].numpy()), _TILE_SIZE)
    assert outputs.mask_logits is not None
    reference = overlay.enlarge_mask(batch.masks[place, 0].numpy(), _TILE_SIZE)
    predicted = overlay.enlarge_mask((outputs.mask_logits[place, 0] > 0).cpu().numpy(), _TILE_SIZE)
    plain = overlay.overlay(image, np.zeros_like(reference))
    return [plain, overlay.overlay(image, reference, overlay.TRUTH), overlay.overlay(image, predicted)]
