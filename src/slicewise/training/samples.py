"""What the network makes of a few validation slices, as a picture after each epoch."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from slicewise.core.files import atomic_write
from slicewise.data.loading.dataset import VOLUMES, Batch, SliceDataset
from slicewise.data.loading.sampler import Indices
from slicewise.domain.labels import modality_slot
from slicewise.plots import overlay
from slicewise.training.learner import Learner
from slicewise.training.objective import ActiveTasks, TaskModel, TaskOutput

_TILE_SIZE: Final = 240


def draw_samples(path: Path, learner: Learner, dataset: SliceDataset, number: int) -> None:
    """Draw `number` slices of `dataset` to a PNG file, one row each: image, mask, the network's mask."""
    batch = dataset.gather(choose_slices(dataset, number))
    outputs = _predict(learner, batch)
    tiles: list[overlay.Rgb] = []
    captions: list[str] = []
    for place, index in enumerate(choose_slices(dataset, number)):
        case = dataset.cases[dataset.case_of[index]]
        tiles += _row(batch, outputs, place)
        captions += [str(case.key), _reference_caption(batch, place), _prediction_caption(outputs, place)]
    with atomic_write(path) as stream:
        stream.write(overlay.to_png(overlay.tile(tiles, captions, columns=3)))


def choose_slices(dataset: SliceDataset, number: int) -> Indices:
    """Choose tumour slices of volumes, evenly over the patients: the same ones after each epoch."""
    tumour = np.flatnonzero((dataset.sources == VOLUMES) & (dataset.labels > 0))
    if not len(tumour):
        tumour = np.arange(len(dataset))
    middles = (np.arange(number) + 0.5) * len(tumour) / number
    return np.unique(tumour[middles.astype(np.int64)])


@torch.no_grad()
def _predict(learner: Learner, batch: Batch) -> TaskOutput:
    """Segment, and classify where the stage does: a head that has not learned yet says nothing."""
    on_device = batch.to(learner.device, learner.config.training.channels_last)
    model = TaskModel(
        learner.best_model, ActiveTasks(segment=True, classify=ActiveTasks.validated(learner.stage).classify)
    )
    with learner.fabric.autocast():
        outputs: TaskOutput = model.eval()(on_device.images, on_device.presence)
    return outputs


def _row(batch: Batch, outputs: TaskOutput, place: int) -> list[overlay.Rgb]:
    image = overlay.enlarge(overlay.grey(_background_image(batch, place)), _TILE_SIZE)
    assert outputs.mask_logits is not None
    reference = overlay.enlarge_mask(batch.masks[place, 0].numpy(), _TILE_SIZE)
    predicted = overlay.enlarge_mask((outputs.mask_logits[place, 0] > 0).cpu().numpy(), _TILE_SIZE)
    plain = overlay.overlay(image, np.zeros_like(reference))
    return [plain, overlay.overlay(image, reference, overlay.TRUTH), overlay.overlay(image, predicted)]


def _background_image(batch: Batch, place: int) -> NDArray[np.float32]:
    """Return FLAIR, on which the whole tumour is bright, or else the first slot that is filled."""
    presence, flair = batch.presence[place], modality_slot("flair")
    slot = flair if presence[flair] else int(presence.argmax())
    image: NDArray[np.float32] = batch.images[place, slot].numpy()
    return image


def _reference_caption(batch: Batch, place: int) -> str:
    return "truth: tumour" if batch.labels[place] else "truth: no tumour"


def _prediction_caption(outputs: TaskOutput, place: int) -> str:
    if outputs.class_logits is None:
        return "found"
    return f"found: tumour {float(outputs.class_logits[place].sigmoid()):.0%}"
