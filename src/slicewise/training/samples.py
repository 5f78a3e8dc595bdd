"""What the network makes of a few validation slices, as a picture after each epoch."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from slicewise.core.files import atomic_write
from slicewise.core.labels import modality_slot
from slicewise.data.batches import VOLUMES, Batch, SliceDataset
from slicewise.data.sampling import Indices
from slicewise.imaging import overlay
from slicewise.training.learner import Learner
from slicewise.training.tasks import Answers, TaskNet, Tasks

_SIDE: Final = 240


def draw_samples(path: Path, learner: Learner, dataset: SliceDataset, number: int) -> None:
    """Draw `number` slices of `dataset` to a PNG file, one row each: image, mask, the network's mask."""
    batch = dataset.gather(choose_slices(dataset, number))
    answers = _answer(learner, batch)
    tiles: list[overlay.Rgb] = []
    captions: list[str] = []
    for place, index in enumerate(choose_slices(dataset, number)):
        case = dataset.cases[dataset.case_of[index]]
        tiles += _row(batch, answers, place)
        captions += [str(case.key), _truth(batch, place), _found(answers, place)]
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
def _answer(learner: Learner, batch: Batch) -> Answers:
    """Segment, and classify where the stage does: a head that has not learned yet says nothing."""
    on_device = batch.to(learner.device, learner.config.training.channels_last)
    net = TaskNet(learner.best_net, Tasks(segment=True, classify=Tasks.validated(learner.stage).classify))
    with learner.fabric.autocast():
        answers: Answers = net.eval()(on_device.images, on_device.presence)
    return answers


def _row(batch: Batch, answers: Answers, place: int) -> list[overlay.Rgb]:
    image = overlay.enlarge(overlay.grey(_shown(batch, place)), _SIDE)
    assert answers.mask_logits is not None
    truth = overlay.enlarge_mask(batch.masks[place, 0].numpy(), _SIDE)
    found = overlay.enlarge_mask((answers.mask_logits[place, 0] > 0).cpu().numpy(), _SIDE)
    plain = overlay.overlay(image, np.zeros_like(truth))
    return [plain, overlay.overlay(image, truth, overlay.TRUTH), overlay.overlay(image, found)]


def _shown(batch: Batch, place: int) -> NDArray[np.float32]:
    """Return FLAIR, on which the whole tumour is bright, or else the first slot that is filled."""
    presence, flair = batch.presence[place], modality_slot("flair")
    slot = flair if presence[flair] else int(presence.argmax())
    image: NDArray[np.float32] = batch.images[place, slot].numpy()
    return image


def _truth(batch: Batch, place: int) -> str:
    return "truth: tumour" if batch.labels[place] else "truth: no tumour"


def _found(answers: Answers, place: int) -> str:
    if answers.class_logits is None:
        return "found"
    return f"found: tumour {float(answers.class_logits[place].sigmoid()):.0%}"
