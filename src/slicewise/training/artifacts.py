"""The files that a stage leaves in its folder, besides the state from which it resumes."""

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from slicewise.config.schema import Stage
from slicewise.core.files import atomic_write, write_text
from slicewise.data.loading.dataset import Batch, Indices, SliceDataset
from slicewise.domain.reference import TrainingReference
from slicewise.imaging.io.image2d import to_png
from slicewise.models.checkpoint import CHECKPOINT_NAME, save_checkpoint
from slicewise.models.multitask import Logits
from slicewise.plots import overlay
from slicewise.plots.curves import draw_curves
from slicewise.plots.sample_predictions import display_slot
from slicewise.tasks.build import find_segmentation
from slicewise.tasks.segmentation import Segmentation
from slicewise.training import processes
from slicewise.training.learner import Learner, Tasks, encode_targets
from slicewise.training.state import Metrics, Progress

_CURVES_SECONDS: Final = 30.0
_TILE_SIZE: Final = 240


class StageArtifacts:
    """Writes best_model.pth, history.csv, curves.png and samples/, in the first process alone."""

    def __init__(
        self,
        name: str,
        out_dir: Path,
        fingerprint: str,
        learner: Learner,
        val_set: SliceDataset,
        reference: TrainingReference,
    ) -> None:
        self._name, self._out_dir, self._fingerprint = name, out_dir, fingerprint
        self._learner, self._val_set, self._reference = learner, val_set, reference
        self._drawn_at = time.monotonic()

    def save_best(self, metrics: Metrics) -> None:
        """Save the model as it is now."""
        if processes.rank():
            return
        checkpoint = self._learner.checkpoint(self._name, self._fingerprint, metrics)
        save_checkpoint(self._out_dir / CHECKPOINT_NAME, replace(checkpoint, reference=self._reference))

    def report(self, progress: Progress) -> None:
        """Write history and figures; the curves take half a second, so not after every short epoch."""
        if processes.rank():
            return
        tasks = self._learner.model.tasks.values()
        metrics: dict[str, str] = {}
        for task in tasks:
            metrics |= task.columns(self._val_set.source_names)
        train, val = (
            [f"{kind}_loss", *(f"{kind}_{task.head}_loss" for task in tasks)] for kind in ("train", "val")
        )
        write_history(
            self._out_dir / "history.csv",
            ["epoch", "learning_rate", *train, *val, *metrics, "score", "seconds", "num_threads"],
            progress.rows,
        )
        if progress.finished or time.monotonic() - self._drawn_at > _CURVES_SECONDS:
            draw_curves(self._out_dir / "curves.png", self._name, progress.rows, progress.best_epoch, metrics)
            self._drawn_at = time.monotonic()
        number = self._learner.config.training.sample_predictions
        if number:
            path = self._out_dir / "samples" / f"epoch_{progress.epoch:03d}.png"
            draw_samples(path, self._learner, self._val_set, number)


def describe_epoch(name: str, stage: Stage, progress: Progress, num_images: float) -> str:
    """Return the last epoch of the history as a line: losses, monitored metrics, learning rate, speed.

    `best` marks an epoch whose weights are the ones to keep now.
    """
    row, before = progress.history[-1], progress.history[-2:-1]
    seconds = row["seconds"] - sum(each["seconds"] for each in before)  # those of all epochs so far
    losses = [column for column in row if column.endswith("loss")]
    if sum(column.startswith("train_") for column in losses) == 2:  # that of the only task is the total
        losses = ["train_loss", "val_loss"]
    monitored = stage.monitors or ("dice", "auc")
    figures = [f"{column} {row[column]:.3f}" for column in (*losses, *monitored) if column in row]
    speed = f"{num_images / max(seconds, 1e-9):.0f} images/s"
    best = ["best"] if progress.best_epoch == progress.epoch else []
    title = f"{name} {progress.epoch}/{stage.epochs}"
    return "  ".join([title, *figures, f"lr {row['learning_rate']:.1e}", speed, *best])


def write_history(path: Path, columns: Sequence[str], rows: Sequence[Metrics]) -> None:
    """Write one line per epoch, 0 for the start; a figure that a line does not have is left blank."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    write_text(path, stream.getvalue())


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
        own = logits[task.name][place : place + 1].float()
        shares = dict(zip(task.classes[1:], task.probabilities(own)[0].tolist(), strict=True))
        shares = {task.classes[0]: 1 - sum(shares.values()), **shares}
        shown = [max(shares, key=shares.__getitem__)] if len(shares) > 2 else task.classes[1:]
        prediction = f"prediction: {', '.join(f'{name} {shares[name]:.0%}' for name in shown)}"
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
