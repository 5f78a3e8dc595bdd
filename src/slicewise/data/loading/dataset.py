"""The slices of a subset as a dataset: from sealed entries of the store to the tensors of a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from itertools import chain
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slicewise.core.errors import DataError
from slicewise.data.store import StoredCase
from slicewise.imaging.slicing import select_evenly

Indices = NDArray[np.int64]

_MAX_OPEN: Final = 200


@dataclass(frozen=True)
class Batch:
    """Slices of one or several cases."""

    images: Tensor
    """float32 [batch, channel, row, col]"""
    presence: Tensor
    """float32 [batch, channel], 1 where it holds an image"""
    masks: Tensor
    """uint8 [batch, 1, row, col], labels as stored; float32 [batch, class, row, col] of 0 and 1 once encoded,
    see `training.losses.encode_targets`"""
    has_mask: Tensor
    """bool [batch]"""
    labels: Tensor
    """float32 [batch], 1 where the slice shows a tumour"""

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device, channels_last: bool = False) -> Self:
        """Return the batch on `device`, the images in the chosen memory layout."""
        layout = torch.channels_last if channels_last else torch.preserve_format
        moved: dict[str, Tensor] = {
            field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)
        }
        return replace(self, **moved | {"images": moved["images"].to(memory_format=layout)})

    def pin(self) -> Self:
        """Return the batch in page-locked memory, from which a GPU copies without waiting."""
        return replace(self, **{field.name: getattr(self, field.name).pin_memory() for field in fields(self)})


@dataclass(frozen=True)
class SlicePool:
    """The training slices of one source, in rounds of `len(pool)`.

    Of a case with more slices than its share, each round takes others, evenly spaced.
    """

    constant: Indices
    """Slices that are in every round"""
    rotating: tuple[tuple[Indices, int], ...] = ()
    """Slices of which a round has some, and their number"""

    def __len__(self) -> int:
        return len(self.constant) + sum(count for _, count in self.rotating)

    def round(self, number: int) -> Indices:
        """Return the slices of a round, counted from 0: the first has those that preprocessing marked."""
        chosen = (select_evenly(*group, turn=number) for group in self.rotating)
        return np.concatenate([self.constant, *chosen])


class SliceDataset:
    """All slices of one subset, source by source, numbered in the order given.

    Args:
        cases: the cases of each source, by its key.
        preload_mib: sets up to this size are copied to memory at once. Of larger ones a limited number of
            cases is open at a time, since each holds two file handles.

    Raises:
        DataError: no slice, or slices of different sizes.
    """

    def __init__(self, cases: Mapping[str, Sequence[StoredCase]], preload_mib: float = 0) -> None:
        self.source_names = tuple(cases)
        """Names of the numbers in `sources`"""
        self.cases = tuple(chain.from_iterable(cases.values()))
        counts = [len(case.labels) for case in self.cases]
        sizes = sorted({case.image_size for case in self.cases})
        if not any(counts):
            raise DataError("this subset of the split has no slice; use more patients (--num-patients)")
        if len(sizes) > 1:
            raise DataError(f"slices of several sizes {sizes}; run again with --force preprocess")
        (self.image_size,) = sizes
        self._first_of = np.cumsum([0, *counts])
        self.case_of = np.repeat(np.arange(len(counts)), counts)
        self.row_of = np.concatenate([np.arange(count) for count in counts])
        source_of_case = np.repeat(np.arange(len(cases)), [len(each) for each in cases.values()])
        self.sources = source_of_case[self.case_of]
        self.labels = np.concatenate([np.asarray(case.labels) for case in self.cases]).astype(np.float32)
        self.included = np.concatenate([np.asarray(case.included, bool) for case in self.cases])
        self.train = np.concatenate([np.asarray(case.train, bool) for case in self.cases])
        self._presence = np.array([case.presence for case in self.cases], np.float32)
        self._has_mask = np.array([case.has_mask for case in self.cases])
        # NumPy copies fastest to a slice.
        self._filled = [slice(None) if all(c.presence) else np.flatnonzero(c.presence) for c in self.cases]
        bytes_per_pixel = 2 * self._presence.sum(1) + 1  # float16 modalities and a uint8 mask
        size_mib = float((np.array(counts) * self.image_size**2 * bytes_per_pixel).sum()) / 2**20
        self._preload_mib = preload_mib
        self.preloaded = size_mib <= preload_mib
        read = partial(_read_arrays, self.cases, self.preloaded)  # no bound method: it would hold `self`
        self._arrays = lru_cache(None if self.preloaded else _MAX_OPEN)(read)

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the cases again in another process."""
        cases: dict[str, list[StoredCase]] = {name: [] for name in self.source_names}
        for case, first in zip(self.cases, self._first_of[:-1], strict=True):
            cases[self.source_names[self.sources[first]]].append(case)
        return SliceDataset, (cases, self._preload_mib)

    @property
    def has_mask(self) -> NDArray[np.bool_]:
        """[slice]"""
        return self._has_mask[self.case_of]

    def training_pool(self, source: str) -> SlicePool:
        """Return the training slices of a source.

        A round has as many of each case as were chosen for training, tumour and healthy each; where there are
        more of them, they take turns.
        """
        chosen = self.train & (self.sources == self.source_names.index(source))
        constant, rotating = [np.empty(0, np.int64)], []
        for case in np.unique(self.case_of[chosen]):
            rows = int(self._first_of[case]) + np.flatnonzero(self.cases[case].included)
            with_tumour = self.labels[rows] == 1
            for group in (rows[with_tumour], rows[~with_tumour]):
                count = int(np.count_nonzero(chosen[group]))
                if count == len(group):
                    constant.append(group)
                elif count:
                    rotating.append((group, count))
        return SlicePool(np.concatenate(constant), tuple(rotating))

    def gather(self, indices: Indices) -> Batch:
        """Return the slices `indices` as one batch."""
        cases = self.case_of[indices]
        size = self.image_size
        images = np.zeros((len(indices), self._presence.shape[1], size, size), np.float16)
        masks = np.zeros((len(indices), 1, size, size), np.uint8)
        for place, (case, row) in enumerate(zip(cases, self.row_of[indices], strict=True)):
            stored_images, stored_masks = self._arrays(case)
            images[place, self._filled[case]] = stored_images[row]
            masks[place, 0] = stored_masks[row]
        return Batch(
            images=torch.from_numpy(images).float(),  # NumPy takes four times as long for it
            presence=torch.from_numpy(self._presence[cases]),
            masks=torch.from_numpy(masks),
            has_mask=torch.from_numpy(self._has_mask[cases]),
            labels=torch.from_numpy(self.labels[indices]),
        )


def _read_arrays(cases: Sequence[StoredCase], copied: bool, case: int) -> tuple[NDArray[Any], NDArray[Any]]:
    images, masks = cases[case].stored_images, cases[case].masks
    return (np.array(images), np.array(masks)) if copied else (images, masks)
