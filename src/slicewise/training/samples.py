"""What the network makes of a few validation slices, as a picture after each epoch."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from slicewise.core.files import atomic_write
from slicewise.core.labels import modality_slot
from slicewise.data.batches import VOLUMES, Batch, SliceDataset
from slicewise.data.sampling import Indices
from slicewise.models.multitask import Prediction
from slicewise.training.learner import Learner

Pixels = NDArray[np.uint8]

_TILE: Final = 224
_BAR: Final = 22
_TRUTH: Final = (80, 220, 100)
_FOUND: Final = (70, 120, 255)
_TEXT: Final = (235, 235, 235)


def draw_samples(path: Path, learner: Learner, dataset: SliceDataset, number: int) -> None:
    """Draw `number` slices of `dataset` with their masks and the network's to a PNG file, one row each."""
    indices = choose_slices(dataset, number)
    if not len(indices):
        return
    batch = dataset.gather(indices)
    prediction = _predict(learner, batch)
    masks = (prediction.mask_logits[:, 0] > 0).cpu().numpy()
    tumour = prediction.class_logits.sigmoid().float().cpu().numpy()
    names = [str(dataset.cases[dataset.case_of[index]].key) for index in indices]
    rows = [_row(batch, place, names[place], masks[place], tumour[place]) for place in range(len(batch))]
    encoded, data = cv2.imencode(".png", np.concatenate(rows))
    assert encoded
    with atomic_write(path) as stream:
        stream.write(data.tobytes())


def choose_slices(dataset: SliceDataset, number: int) -> Indices:
    """Choose tumour slices of volumes, evenly over the patients: the same ones after each epoch."""
    tumour = np.flatnonzero((dataset.sources == VOLUMES) & (dataset.labels > 0))
    if not len(tumour):
        tumour = np.arange(len(dataset))
    middles = (np.arange(number) + 0.5) * len(tumour) / number
    return np.unique(tumour[middles.astype(np.int64)])


@torch.no_grad()
def _predict(learner: Learner, batch: Batch) -> Prediction:
    on_device = batch.to(learner.device, learner.config.training.channels_last)
    net = learner.best_net.eval()
    with learner.fabric.autocast():
        prediction: Prediction = net(on_device.images, on_device.presence)
    return prediction


def _row(batch: Batch, place: int, name: str, found: NDArray[np.bool_], tumour: float) -> Pixels:
    image = _grey(batch.images[place].numpy(), batch.presence[place].numpy())
    truth = batch.masks[place, 0].numpy() > 0.5
    label = "tumour" if batch.labels[place] else "no tumour"
    tiles = (
        _tile(image, None, _TEXT, name),
        _tile(image, truth, _TRUTH, f"truth: {label}"),
        _tile(image, found, _FOUND, f"found: tumour {tumour:.0%}"),
    )
    return np.concatenate(tiles, 1)


def _grey(images: NDArray[np.float32], presence: NDArray[np.float32]) -> Pixels:
    """Show FLAIR, on which the whole tumour is bright, or else the first slot that is filled."""
    flair = modality_slot("flair")
    image = images[flair if presence[flair] else int(presence.argmax())]
    low, high = -2.0, 3.0
    shown = np.where(image == 0, 0, (image - low) / (high - low) * 255)
    return shown.clip(0, 255).astype(np.uint8)


def _tile(image: Pixels, mask: NDArray[np.bool_] | None, colour: tuple[int, int, int], text: str) -> Pixels:
    size = (_TILE, _TILE)
    shown = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    if mask is not None:
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(shown, outlines, -1, colour, 1, cv2.LINE_AA)
    bar = np.zeros((_BAR, _TILE, 3), np.uint8)
    cv2.putText(bar, text[-34:], (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
    return np.concatenate([bar, shown])
