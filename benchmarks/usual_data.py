"""The usual data path: a compressed file per slice, opened, augmented and collated sample by sample."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from slicewise.config.schema import Augmentation
from slicewise.data.loading.dataset import Batch
from slicewise.data.store import StoredCase

Floats = NDArray[np.float32]
Sample = tuple[Tensor, Tensor, Tensor]
"""(image [4, row, col], mask [1, row, col], label)"""


def write_files(cases: Sequence[StoredCase], folder: Path) -> list[Path]:
    """Write the training slices of `cases` as one `.npz` each."""
    folder.mkdir()
    paths = []
    for case in cases:
        for row in np.flatnonzero(case.train):
            path = folder / f"{case.key.case}_{row:03d}.npz"
            np.savez_compressed(path, image=case.images[row].astype(np.float32), mask=case.masks[row])
            paths.append(path)
    return paths


class FileDataset(Dataset[Sample]):
    """One file per sample."""

    def __init__(self, paths: Sequence[Path], augmentation: Augmentation) -> None:
        self.paths, self.augmentation = paths, augmentation

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Sample:
        with np.load(self.paths[number]) as file:
            image, mask = file["image"], (file["mask"] > 0).astype(np.float32)
        label = float(mask.any())
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        image, mask = augment(image, mask, self.augmentation, rng)
        return torch.from_numpy(image), torch.from_numpy(mask[None]), torch.tensor(label)


def make_loader(dataset: FileDataset, batch_size: int, iterations: int, workers: int) -> DataLoader[Sample]:
    """Return the loader of an epoch of `iterations` batches with persistent workers."""
    sampler = RandomSampler(dataset, replacement=True, num_samples=batch_size * iterations)
    return DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, persistent_workers=workers > 0
    )


def collate(parts: Sequence[Tensor], modality_dropout: float) -> Batch:
    """Return a batch from the loader's tensors, with modality dropout as in our training."""
    images, masks, labels = parts
    presence = (torch.rand(images.shape[:2]) >= modality_dropout).float()
    presence[:, -1] = 1
    return Batch(
        images=images * presence[:, :, None, None],
        presence=presence,
        masks=masks,
        has_mask=torch.ones(len(labels), dtype=torch.bool),
        labels=labels,
    )


def augment(
    image: Floats, mask: Floats, settings: Augmentation, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Flip, rotate, scale, shift, change contrast and brightness, add noise: our augmentation with scipy."""
    if rng.random() < settings.flip:
        image, mask = image[..., ::-1], mask[..., ::-1]
    matrix, offset = _draw_affine(settings, mask.shape[-1], rng)
    moved = np.stack([_transform(channel, matrix, offset, order=1) for channel in image])
    mask = _transform(mask, matrix, offset, order=0)
    spread = rng.uniform(-settings.intensity, settings.intensity, (2, len(moved), 1, 1)).astype(np.float32)
    noise = rng.normal(0, settings.noise, moved.shape).astype(np.float32)
    return np.where(moved != 0, moved * (1 + spread[0]) + spread[1] + noise, 0).astype(np.float32), mask


def _draw_affine(settings: Augmentation, side: int, rng: np.random.Generator) -> tuple[Any, Any]:
    angle = math.radians(rng.uniform(-settings.rotation, settings.rotation))
    zoom = 1 / (1 + rng.uniform(-settings.scale, settings.scale))
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]])
    centre = np.full(2, (side - 1) / 2)
    shift = side * rng.uniform(-settings.translation, settings.translation, 2)
    return matrix, centre - matrix @ centre + shift


def _transform(image: Floats, matrix: Any, offset: Any, order: int) -> Floats:
    moved: Floats = affine_transform(image, matrix, offset, order=order)
    return moved
