"""From sealed slices to the tensors of a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import Final, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicewise.core.errors import DataError
from slicewise.data.loading.sampler import Indices, SlicePool
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import NUM_MODALITIES

SOURCES: Final = ("volumes", "pictures")
"""What the numbers in `SliceDataset.sources` mean."""
VOLUMES: Final = 0
PICTURES: Final = 1

Arrays = tuple[NDArray[np.float16], NDArray[np.uint8]]

_MAX_OPEN: Final = 200


class SliceArrays(Protocol):
    """The slices of one case as the store opens them, in memory or memory-mapped."""

    @property
    def key(self) -> CaseKey: ...
    @property
    def group(self) -> str:
        """What the split keeps together: a patient, or a family of near-identical pictures"""

    @property
    def image_size(self) -> int: ...
    @property
    def stored_images(self) -> NDArray[np.float16]:
        """[slice, present modality, row, col]"""

    @property
    def masks(self) -> NDArray[np.uint8]:
        """[slice, row, col], labels 0 to 3; zeros where there is no mask"""

    @property
    def has_mask(self) -> bool: ...
    @property
    def labels(self) -> NDArray[np.int8]:
        """[slice], 1 where there is tumour"""

    @property
    def seen(self) -> NDArray[np.bool_]:
        """[slice], True where there is enough brain to look at"""

    @property
    def train(self) -> NDArray[np.bool_]:
        """[slice], True where the slice was chosen for training, in its first round"""

    @property
    def presence(self) -> Sequence[bool]:
        """[4], which modality slots are filled"""


@dataclass(frozen=True)
class Batch:
    """Slices of one or several cases."""

    images: Tensor
    """float32 [batch, 4, row, col]"""
    presence: Tensor
    """float32 [batch, 4], 1 where the slot is filled"""
    masks: Tensor
    """float32 [batch, 1, row, col], 1 where there is tumour"""
    has_mask: Tensor
    """bool [batch]"""
    labels: Tensor
    """float32 [batch], 1 where the slice shows a tumour"""

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device, channels_last: bool = False) -> Self:
        """Return the batch on `device`, the images in the memory layout asked for."""
        layout = torch.channels_last if channels_last else torch.preserve_format
        moved: dict[str, Tensor] = {
            field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)
        }
        return replace(self, **moved | {"images": moved["images"].to(memory_format=layout)})

    def pin(self) -> Self:
        """Return the batch in page-locked memory, from which a GPU copies without waiting."""
        return replace(self, **{field.name: getattr(self, field.name).pin_memory() for field in fields(self)})


class SliceDataset:
    """All slices of one side of the split, volumes first, numbered in the order given.

    Args:
        volumes: cases with masks.
        pictures: single pictures.
        preload_mib: sets up to this size are copied to memory at once. Of larger ones a limited number of
            cases is open at a time, since each holds two file handles.

    Raises:
        DataError: no slice, or slices of different sizes.
    """

    def __init__(
        self, volumes: Sequence[SliceArrays], pictures: Sequence[SliceArrays] = (), preload_mib: float = 0
    ) -> None:
        self.cases: tuple[SliceArrays, ...] = (*volumes, *pictures)
        self.image_size = _common_size(self.cases)
        counts = [len(case.labels) for case in self.cases]
        self._first_of = np.cumsum([0, *counts])
        self.case_of = np.repeat(np.arange(len(counts)), counts)
        self.row_of = np.concatenate([np.arange(count) for count in counts])
        self.sources = np.where(self.case_of < len(volumes), VOLUMES, PICTURES)
        self.labels = np.concatenate([np.asarray(case.labels) for case in self.cases]).astype(np.float32)
        self.seen = np.concatenate([np.asarray(case.seen, bool) for case in self.cases])
        self.train = np.concatenate([np.asarray(case.train, bool) for case in self.cases])
        self._presence = np.array([case.presence for case in self.cases], np.float32)
        self._has_mask = np.array([case.has_mask for case in self.cases])
        self._filled = [_filled(case.presence) for case in self.cases]
        self.preloaded = self._size_mib() <= preload_mib
        most = None if self.preloaded else _MAX_OPEN
        self._arrays = lru_cache(most)(partial(_read_arrays, self.cases, self.preloaded))

    def __len__(self) -> int:
        return len(self.labels)

    def training_pool(self, source: int) -> SlicePool:
        """Return the slices of VOLUMES or PICTURES to learn from.

        As many of each case as were chosen for training, tumour and healthy each; where there are more of
        them, by turns.
        """
        chosen = self.train & (self.sources == source)
        constant, rotating = [], []
        for group in self._groups(np.unique(self.case_of[chosen])):
            count = int(np.count_nonzero(chosen[group]))
            if count == len(group):
                constant.append(group)
            elif count:
                rotating.append((group, count))
        return SlicePool(np.concatenate([np.empty(0, np.int64), *constant]), tuple(rotating))

    def _groups(self, cases: Indices) -> Iterator[Indices]:
        """Give the seen slices of each case, those with tumour and the others."""
        for case in cases:
            first = int(self._first_of[case])
            rows = first + np.flatnonzero(self.cases[case].seen)
            ill = self.labels[rows] == 1
            yield rows[ill]
            yield rows[~ill]

    def gather(self, indices: Indices) -> Batch:
        """Read the slices `indices` into one batch."""
        cases = self.case_of[indices]
        size = self.image_size
        images = np.zeros((len(indices), NUM_MODALITIES, size, size), np.float16)
        masks = np.zeros((len(indices), 1, size, size), np.uint8)
        for place, (case, row) in enumerate(zip(cases, self.row_of[indices], strict=True)):
            stored_images, stored_masks = self._arrays(case)
            images[place, self._filled[case]] = stored_images[row]
            masks[place, 0] = stored_masks[row]
        return Batch(
            images=torch.from_numpy(images).float(),  # NumPy takes four times as long for it
            presence=torch.from_numpy(self._presence[cases]),
            masks=(torch.from_numpy(masks) > 0).float(),
            has_mask=torch.from_numpy(self._has_mask[cases]),
            labels=torch.from_numpy(self.labels[indices]),
        )

    def _size_mib(self) -> float:
        """Size of all slices: two bytes a pixel and modality, one for the mask."""
        pixels = np.bincount(self.case_of, minlength=len(self.cases)) * self.image_size**2
        return float((pixels * (2 * self._presence.sum(1) + 1)).sum()) / 2**20


def _filled(presence: Sequence[bool]) -> slice | Indices:
    """Return the filled slots in the form that NumPy copies fastest to."""
    return slice(None) if all(presence) else np.flatnonzero(presence)


def _read_arrays(cases: Sequence[SliceArrays], copied: bool, number: int) -> Arrays:
    images, masks = cases[number].stored_images, cases[number].masks
    return (np.array(images), np.array(masks)) if copied else (images, masks)


def _common_size(cases: Sequence[SliceArrays]) -> int:
    if not any(len(case.labels) for case in cases):
        raise DataError("there is no slice on this side of the split; raise scale.min_patients")
    sizes = sorted({case.image_size for case in cases})
    if len(sizes) > 1:
        raise DataError(f"slices of several sizes {sizes}; run again with --force preprocess")
    return sizes[0]
