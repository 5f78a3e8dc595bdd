from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slicewise.core.errors import DataError
from slicewise.data.loading.dataset import SliceDataset
from slicewise.domain.keys import CaseKey
from slicewise.imaging.slicing import select_training_slices

SIDE = 8


@dataclass
class Case:
    """Slice `s`, modality slot `m` of case `n` holds 100 n + 10 s + m everywhere."""

    key: CaseKey
    stored_images: NDArray[np.float16]
    masks: NDArray[np.uint8]
    labels: NDArray[np.int8]
    included: NDArray[np.bool_]
    train: NDArray[np.bool_]
    presence: tuple[bool, ...]
    has_mask: bool = True
    image_size: int = SIDE

    @property
    def group(self) -> str:
        return self.key.patient


def case(number: int, num_slices: int, presence: tuple[int, ...] = (1, 1, 1, 1), side: int = SIDE) -> Any:
    slots = np.flatnonzero(presence)
    values = 100 * number + 10 * np.arange(num_slices)[:, None] + slots
    images = np.broadcast_to(values[:, :, None, None], (num_slices, len(slots), side, side))
    labels = np.arange(num_slices) % 2
    masks = np.zeros((num_slices, side, side), np.uint8)
    masks[labels == 1, 2:4, 2:4] = 3
    return Case(
        CaseKey("made", f"P{number}", "c"),
        images.astype(np.float16),
        masks,
        labels.astype(np.int8),
        np.ones(num_slices, np.bool_),
        np.arange(num_slices) > 0,
        tuple(bool(present) for present in presence),
        image_size=side,
    )


def test_a_batch_holds_the_slices_asked_for_in_their_slots() -> None:
    dataset = SliceDataset({"volumes": [case(0, 2), case(1, 3, (1, 0, 0, 1))]})

    batch = dataset.gather(np.array([4, 0]))

    assert batch.images[:, :, 0, 0].tolist() == [[120, 0, 0, 123], [0, 1, 2, 3]]
    assert batch.presence.tolist() == [[1, 0, 0, 1], [1, 1, 1, 1]]
    assert batch.labels.tolist() == [0, 0]
    assert batch.images.dtype == batch.labels.dtype == torch.float32
    assert batch.masks.dtype == torch.uint8
    assert batch.masks.shape == (2, 1, SIDE, SIDE)


def test_masks_are_whole_tumour_and_known_to_be_there() -> None:
    picture = case(1, 1, (0, 0, 0, 1))
    picture.has_mask = False
    dataset = SliceDataset({"volumes": [case(0, 2)], "pictures": [picture]})
    batch = dataset.gather(np.arange(3))

    assert set(batch.masks.flatten().tolist()) == {0, 3}
    assert (batch.masks > 0).sum((1, 2, 3)).tolist() == [0, 4, 0]
    assert batch.has_mask.tolist() == [True, True, False]
    assert dataset.sources.tolist() == [0, 0, 1]


def test_training_slices_are_those_marked_of_their_source() -> None:
    dataset = SliceDataset({"volumes": [case(0, 3), case(1, 2)], "pictures": [case(2, 2, (0, 0, 0, 1))]})

    assert sorted(dataset.training_pool("volumes").round(0)) == [1, 2, 4]
    assert sorted(dataset.training_pool("pictures").round(0)) == [6]
    assert len(dataset) == 7


def test_healthy_slices_that_are_too_many_take_turns_within_their_case() -> None:
    """Slices 0, 2, 4 and 6 of the second case are healthy; one is chosen, and 6 has hardly any brain."""
    crowded = case(1, 8)
    crowded.train = np.isin(np.arange(8), [1, 2, 3, 5, 7])
    crowded.included = np.arange(8) != 6
    whole = case(0, 3)
    whole.train = whole.included
    pool = SliceDataset({"volumes": [whole, crowded]}).training_pool("volumes")
    rounds = [sorted(pool.round(number).tolist()) for number in range(4)]
    always = [0, 1, 2, 4, 6, 8, 10]

    assert rounds[0] == sorted([*always, 5])
    assert [set(found) - set(always) for found in rounds] == [{5}, {7}, {3}, {5}]


def test_the_first_round_is_what_preprocessing_marked() -> None:
    crowded = case(0, 200)
    crowded.train = select_training_slices(crowded.labels, 0.5, 64)
    first = SliceDataset({"volumes": [crowded]}).training_pool("volumes").round(0)

    assert sorted(first) == np.flatnonzero(crowded.train).tolist()


@pytest.mark.parametrize("preload_mib", [0, 1])
def test_memory_mapped_and_preloaded_slices_are_the_same(tmp_path: Path, preload_mib: float) -> None:
    source = case(0, 4)
    np.save(tmp_path / "images.npy", source.stored_images)
    mapped = case(0, 4)
    mapped.stored_images = np.load(tmp_path / "images.npy", mmap_mode="r")

    batch = SliceDataset({"volumes": [mapped]}, preload_mib=preload_mib).gather(np.array([3, 1]))

    assert torch.equal(batch.images, SliceDataset({"volumes": [source]}).gather(np.array([3, 1])).images)


def test_large_sets_keep_only_some_cases_open() -> None:
    class Counted(Case):
        opened = 0

        def __getattribute__(self, name: str) -> object:
            if name == "stored_images":
                Counted.opened += 1
            return super().__getattribute__(name)

    cases: list[Any] = [Counted(**vars(case(number % 9, 1))) for number in range(300)]
    dataset = SliceDataset({"volumes": cases})
    assert Counted.opened == 0

    dataset.gather(np.arange(300))
    dataset.gather(np.arange(290, 300))
    assert Counted.opened == 300
    dataset.gather(np.arange(5))
    assert Counted.opened == 305


def test_to_moves_every_tensor_and_sets_the_layout() -> None:
    batch = (
        SliceDataset({"volumes": [case(0, 2)]})
        .gather(np.arange(2))
        .to(torch.device("cpu"), channels_last=True)
    )

    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert len(batch) == 2


def test_an_empty_side_and_mixed_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="no slice"):
        SliceDataset({"volumes": []})
    with pytest.raises(DataError, match=r"\[8, 16\]"):
        SliceDataset({"volumes": [case(0, 2), case(1, 2, side=16)]})
